"""A crontab moves in: its lines fire at their minutes, as processes, and go with the file."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling.models import Job, Run, Target
from tests.acceptance.rig import ROOT, Rig, now
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

# The processes' clock is set so far before a full minute when they start.
AHEAD = timedelta(seconds=20)


class Crontab:
    """A crontab of a rig whose clock is ahead, and the program that its lines call."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.file = rig.folder / "crontab"
        self.told = rig.folder / "told"
        self.program = rig.folder / "tell"
        self.program.write_text(
            "#!/bin/sh\n"
            'echo "$SCHEDULED_AT $ATTEMPT ${DATABASE_URL-no} ${DJANGO_SECRET_KEY-no} $1" '
            f">> {shlex.quote(str(self.told))}\necho told\n"
        )
        self.program.chmod(0o755)
        minute = now().replace(second=0, microsecond=0) + timedelta(minutes=2)
        self.offset = minute - AHEAD - now()
        (rig.folder / "crontab_settings.py").write_text(
            "from tests.acceptance.settings import *\n"
            f"JOBS_PROGRAMS = ({str(self.program)!r},)\n"
            f"JOBS_CLOCK = {self.offset.total_seconds()}\n"
        )
        rig.environ |= {
            "DJANGO_SETTINGS_MODULE": "crontab_settings",
            "PYTHONPATH": f"{rig.folder}:{ROOT}",
            "DJANGO_SECRET_KEY": "a secret of sixty characters, so that no check complains of it",
        }

    def now(self) -> datetime:
        return now() + self.offset

    def bring(self, text: str, code: int = 0) -> dict[str, Any]:
        self.file.write_text(text)
        done = subprocess.run(
            [sys.executable, "manage.py", "jobs", "import", "crontab", str(self.file), "--json"],
            cwd=ROOT,
            env=self.rig.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == code
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def lines(self) -> list[list[str]]:
        if not self.told.exists():
            return []
        return [line.split(" ", 4) for line in self.told.read_text().splitlines()]


def minutes(after: datetime, until: datetime) -> list[datetime]:
    """Return the full minutes in (after, until], by arithmetic that is not ours."""
    first, last = int(after.timestamp()) // 60 + 1, int(until.timestamp()) // 60
    return [datetime.fromtimestamp(60 * minute, UTC) for minute in range(first, last + 1)]


def check_a_crontab(rig: Rig) -> None:
    crontab = Crontab(rig)
    manage = f"cd {ROOT} && {sys.executable} manage.py"
    lines = (
        f"# from an old machine\nSHELL=/bin/bash\n"
        f"* * * * * {crontab.program} 'two words' >> {rig.folder}/old.log 2>&1\n"
        f"*/1 * * * * {manage} scribble --verbosity 1\n"
        f"0 3 1 1 * {crontab.program} new-year\n"
    )
    begun = crontab.now()
    answer = crontab.bring(f"{lines}* * * * * {crontab.program} | mail -s x ops\n", code=1)
    assert len(answer["created"]) == 3
    assert [problem["line"] for problem in answer["problems"]] == [6]
    assert sorted(crontab.bring(lines)["unchanged"]) == answer["created"]

    rig.beat()
    rig.worker()
    wait_for(
        lambda: crontab.lines() and rig.lines("end", "scribble"),
        timeout=90,
        message=lambda: list(Run.objects.values("name", "state", "reason", "error")),
    )
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="all have ended")
    assert sorted(crontab.bring("# all gone\n")["retired"]) == answer["created"]
    ended = crontab.now()

    expected = minutes(begun, ended)
    assert expected
    by_schedule = {
        job.schedule.removesuffix(" tz UTC"): job
        for job in Job.objects.filter(name__in=answer["created"])
    }
    program, command = by_schedule["cron * * * * *"], by_schedule["cron */1 * * * *"]
    assert (program.kind, command.kind, command.command) == ("argv", "command", "scribble")
    for job in (program, command):
        target = Target.objects.get(job=job)
        assert target.next_fire_at is None
        rig.check_fires(target, expected)
    assert not Run.objects.filter(job=by_schedule["cron 0 3 1 1 *"]).exists()

    # The oracle: what ran says for which minute, and sees no secret.
    good = Run.objects.filter(state="succeeded")
    assert crontab.lines() == [
        [run.scheduled_at.isoformat(), "1", "no", "no", "two words"]
        for run in good.filter(job=program).order_by("scheduled_at")
    ]
    assert [line.scheduled_at for line in rig.lines("end", "scribble")] == [
        run.scheduled_at.isoformat() for run in good.filter(job=command).order_by("scheduled_at")
    ]
    assert {run.output for run in good.filter(job=program)} == {"told\n"}
    assert not Path(rig.folder / "old.log").exists()


def test_a_crontab_moves_in(rig: Rig) -> None:
    check_a_crontab(rig)


@pytest.mark.soak
def test_a_crontab_moves_in_on_sqlite(embedded_rig: Rig) -> None:
    check_a_crontab(embedded_rig)
