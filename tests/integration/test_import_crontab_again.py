"""`jobs import crontab` once more: jobs stay in step with their file, and fire."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling import clock, runs
from scheduling.models import Job, Run, Target
from tests.factories import make_job
from tests.integration.cli import jobs
from tests.integration.crontab_file import File, Report, outcome

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def begin(settings: Any, monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    Job.objects.all().delete()
    settings.TIME_ZONE = "Europe/Berlin"
    settings.JOBS_PROGRAMS = ("/bin/*", "/usr/bin/*")
    commands = {"report": Report(), "clearsessions": "django.contrib.sessions"}
    monkeypatch.setattr("scheduling.management.crontab_work.get_commands", lambda: commands)


@pytest.fixture
def crontab(tmp_path: Path) -> File:
    return File(tmp_path / "crontab")


def test_the_same_file_twice_changes_nothing(crontab: File) -> None:
    lines = (
        "MAILTO=ops@example.org",
        "0 3 * * * python manage.py report --day mon",
        "0 3 * * * /bin/echo a >/dev/null 2>&1",
        "30 * * * * flock -n /run/l timeout 9 /bin/echo a",
    )
    first = crontab.bring(*lines)
    before = list(Job.objects.values())
    again = crontab.bring(*lines)
    assert outcome(first) == {"created": again["unchanged"]}
    assert outcome(again) == {"unchanged": first["created"]}
    assert list(Job.objects.values()) == before


def test_an_edited_time_updates_and_moves_the_next_fire(crontab: File) -> None:
    job = crontab.job("0 3 1 1 * /bin/echo a")
    answer = crontab.bring("# moved", "*/2 * * * * timeout 5 /bin/echo a")
    assert outcome(answer) == {"updated": [job.name]}
    job.refresh_from_db()
    assert (job.schedule, job.hard_limit) == (
        "cron */2 * * * * tz Europe/Berlin",
        timedelta(seconds=5),
    )
    target = Target.objects.get(job=job)
    assert target.next_fire_at is not None
    assert clock.now() < target.next_fire_at <= clock.now() + timedelta(minutes=2)


def test_a_removed_line_retires_its_job_and_one_put_back_revives_it(crontab: File) -> None:
    both = ("@daily /bin/echo a", "@daily /bin/cat b")
    crontab.bring(*both)
    assert outcome(crontab.bring(both[0])) == {"retired": ["cat"], "unchanged": ["echo"]}
    assert Job.objects.get(name="cat").retired_at is not None
    assert outcome(crontab.bring(both[0])) == {"unchanged": ["echo"]}
    assert outcome(crontab.bring(*both)) == {"updated": ["cat"], "unchanged": ["echo"]}
    assert Job.objects.get(name="cat").retired_at is None
    assert Target.objects.get(job__name="cat").next_fire_at is not None


def test_two_lines_with_one_command_are_two_jobs(crontab: File) -> None:
    lines = ["0 3 * * * /bin/echo a", "0 15 * * 6 /bin/echo a"]
    created = crontab.bring(*lines)["created"]
    assert len(created) == 2
    lines[1] = "30 15 * * 6 /bin/echo a"
    answer = crontab.bring(*lines)
    assert outcome(answer) == {"updated": [created[1]], "unchanged": [created[0]]}


def test_jobs_of_others_are_left_alone(crontab: File, tmp_path: Path) -> None:
    mine = make_job("mine", declared_in="admin")
    other = File(tmp_path / "other")
    other.bring("@daily /bin/cat")
    assert outcome(crontab.bring("# nothing")) == {}
    assert not Job.objects.filter(retired_at__isnull=False).exists()
    mine.refresh_from_db()
    assert mine.retired_at is None


def test_a_prefix_names_the_import_whatever_the_file(crontab: File, tmp_path: Path) -> None:
    moved = File(tmp_path / "moved")
    options = ("--prefix", "web1-")
    assert outcome(crontab.bring("@daily /bin/echo", options=options)) == {"created": ["web1-echo"]}
    assert outcome(moved.bring("@hourly /bin/echo", options=options)) == {"updated": ["web1-echo"]}
    assert outcome(moved.bring("@hourly /bin/echo", options=("--prefix", "web2-"))) == {
        "created": ["web2-echo"]
    }


def test_what_the_file_does_not_say_stays_the_operators(crontab: File) -> None:
    job = crontab.job("@daily /bin/echo")
    kept = {
        "overlap": "queue",
        "hard_limit": timedelta(minutes=3),
        "recipients": ["me@example.org"],
        "options": {**job.options, "queue": "slow"},
    }
    Job.objects.filter(pk=job.pk).update(**kept)
    assert outcome(crontab.bring("@hourly /bin/echo")) == {"updated": [job.name]}
    assert Job.objects.filter(pk=job.pk).values(*kept).get() == kept


def test_a_line_that_is_wrong_by_now_leaves_its_job_as_it_is(crontab: File, settings: Any) -> None:
    job = crontab.job("0 3 * * * /bin/echo")
    assert outcome(crontab.bring("61 3 * * * /bin/echo", code=1)) == {}
    settings.JOBS_PROGRAMS = ()
    assert outcome(crontab.bring("1 3 * * * /bin/echo", code=1)) == {}
    before = job.schedule
    job.refresh_from_db()
    assert (job.schedule, job.retired_at) == (before, None)


def test_a_job_that_is_told_nothing_of_its_line_is_no_longer_the_imports(crontab: File) -> None:
    for expected in (r"echo", r"echo-[0-9a-f]{6}"):
        (name,) = crontab.bring("@daily /bin/echo")["created"]
        assert re.fullmatch(expected, name)
        Job.objects.update(options={})
    (problem,) = crontab.bring("@daily /bin/echo", code=1)["problems"]
    assert "are taken; say --prefix" in problem["problem"]
    assert not Job.objects.filter(retired_at__isnull=False).exists()


def test_a_dry_run_tells_and_changes_nothing(crontab: File) -> None:
    crontab.bring("@daily /bin/echo", "@daily /bin/cat")
    before = list(Job.objects.values())
    answer = crontab.bring("@hourly /bin/echo", "@daily /bin/true", options=("--dry-run",))
    assert outcome(answer) == {"created": ["true"], "updated": ["echo"], "retired": ["cat"]}
    assert list(Job.objects.values()) == before
    told = jobs("import", "crontab", str(crontab.path), "--dry-run")
    assert "echo: would be updated\n  schedule: cron @daily" in told.stdout


def test_what_an_edit_leaves_behind_can_be_accounted_for(crontab: File) -> None:
    job = crontab.job("* * * * * /bin/echo")
    Target.objects.filter(job=job).update(next_fire_at=clock.now() - timedelta(minutes=5))
    crontab.bring("0 3 * * * /bin/echo")
    assert sum(Run.objects.filter(job=job).values_list("fires", flat=True)) >= 5


def test_an_imported_job_fires_like_any_other(crontab: File) -> None:
    job = crontab.job("* * * * * /bin/echo")
    target = Target.objects.get(job=job)
    assert target.next_fire_at is not None
    claim = runs.claim(limit=10, now=target.next_fire_at)
    assert [run.name for run in claim.runs] == ["echo"]
