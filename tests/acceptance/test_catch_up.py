"""Seven hours without a beat, and ranges that are run again: counted by the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from scheduling import runs
from scheduling.models import Job, Run, Target
from scheduling.policies import CatchUp
from tests.acceptance.rig import ROOT, Rig, add_job, now
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HOUR = timedelta(hours=1)
DOWN = 7 * HOUR
# The policy's default: one period, at least an hour.
WINDOWS = {"daily": 24 * HOUR, "hourly": HOUR, "ten": HOUR}
GRACE = timedelta(seconds=15)


def test_seven_hours_down_gives_exactly_what_each_policy_says(rig: Rig) -> None:
    check_seven_hours(rig)


@pytest.mark.soak
def test_so_it_does_on_sqlite(embedded_rig: Rig) -> None:
    check_seven_hours(embedded_rig)


def check_seven_hours(rig: Rig) -> None:
    """Three schedules by three policies; the first beat is killed in the middle of catching up."""
    down = now() - DOWN
    # At half past some hour, three hours ago, so that no clock of this test comes near to it.
    daily = (now() - 3 * HOUR).replace(minute=30, second=0, microsecond=0)
    schedules = {
        "daily": f"cron {daily.minute} {daily.hour} * * *",
        "hourly": "every 1h phase 30m",
        "ten": "every 10s",
    }
    jobs = {
        (name, policy): add_job(
            f"{name} {policy}", schedule=text, catch_up=policy.value, overlap="queue"
        )
        for name, text in schedules.items()
        for policy in CatchUp
    }
    for job in jobs.values():
        runs.adopt(job, after=down, now=now())
    rig.worker(concurrency=2)
    first = rig.beat("first")
    caught_up = Run.objects.filter(cause="catch_up")
    wait_for(lambda: caught_up.count() >= 50, timeout=60, message="catching up is under way")
    first.kill()
    rig.beat("second")
    wait_for(
        lambda: not Target.objects.filter(next_fire_at__lte=now() - GRACE).exists(),
        timeout=90,
        message=lambda: list(Target.objects.values_list("job__name", "next_fire_at")),
    )
    ends = {job: rig.end(job) for job in jobs.values()}
    rig.wait_for_ends(timeout=90)

    rig.check_oracle()
    for (name, policy), job in jobs.items():
        target = Target.objects.get(job=job)
        fires = named(name, daily, after=down, until=ends[job])
        rig.check_fires(target, fires)
        check_policy(rig, job, policy, fires, WINDOWS[name])


def named(name: str, daily: datetime, *, after: datetime, until: datetime) -> list[datetime]:
    """The fires in (after, until], by arithmetic that is not the product's."""
    if name == "daily":
        return [daily]
    step = 3600 if name == "hourly" else 10
    phase = 1800 if name == "hourly" else 0
    since = (int(after.timestamp()) - phase) // step + 1
    found = []
    while (second := since * step + phase) <= until.timestamp():
        found.append(datetime.fromtimestamp(second, UTC))
        since += 1
    return found


def check_policy(
    rig: Rig, job: Job, policy: CatchUp, fires: list[datetime], window: timedelta
) -> None:
    """What the oracle saw of the missed fires, those that were claimed later than in time."""
    told = Counter(line.scheduled_at for line in rig.lines("end", job.name))
    assert set(told.values()) <= {1}
    row_of = Run.objects.filter(job=job)
    caught_up = set(row_of.filter(cause="catch_up").values_list("scheduled_at", flat=True))
    on_time = set(
        row_of.filter(cause="schedule", state="succeeded").values_list("scheduled_at", flat=True)
    )
    assert {datetime.fromisoformat(at) for at in told} == caught_up | on_time
    first_claim = min(row_of.values_list("created_at", flat=True))
    missed = [fire for fire in fires if fire < first_claim - GRACE]
    skipped = dict(row_of.filter(state="skipped").values_list("reason", "fires"))
    within = [fire for fire in missed if fire >= first_claim - window]
    older = len(missed) - len(within)
    if policy is CatchUp.NONE:
        assert caught_up == set()
        assert skipped == {"late": len(missed)}
    elif policy is CatchUp.ALL:
        # Of a long line, what was due meanwhile is caught up as well.
        assert set(within) <= caught_up
        assert skipped == ({"window": older} if older else {})
    else:
        # A fire that was simply due stands for those before it.
        is_due = any(first_claim - GRACE <= fire <= first_claim for fire in fires)
        assert caught_up == (set() if is_due else set(within[-1:]))
        kept = len(within) - len(caught_up)
        assert skipped == {
            reason: count for reason, count in (("window", older), ("coalesced", kept)) if count
        }


def test_a_backfill_runs_each_date_once_and_in_order(rig: Rig) -> None:
    check_backfill(rig)


def test_so_it_does_on_sqlite_too(embedded_rig: Rig) -> None:
    check_backfill(embedded_rig)


def check_backfill(rig: Rig) -> None:
    job = add_job("nightly", schedule="cron 0 3 * * *")
    runs.adopt(job, now=now())
    words = ("nightly", "--from", "2026-01-01T03:00:00Z", "--to", "2026-01-08T12:00:00Z")
    dates = [f"2026-01-0{day}T03:00:00+00:00" for day in range(2, 9)]

    assert ask(rig, "backfill", *words, "--dry-run") == {"fires": dates, "created": 0}
    assert ask(rig, "backfill", *words) == {"fires": dates, "created": 7}
    beat = rig.beat("first")
    rig.worker(concurrency=4)
    wait_for(lambda: len(rig.lines("end")) >= 2, timeout=60, message="it is under way")
    beat.kill()
    rig.beat("second")
    wait_for(lambda: not Run.objects.open().exists(), timeout=60, message="all dates have been run")
    assert [line.scheduled_at for line in rig.lines("start")] == dates
    rig.check_oracle()

    # The same range again, newest first, side by side; and only what is missing: nothing.
    ask(rig, "backfill", *words, "--newest-first", "--max-open", "3", "--overlap", "allow")
    wait_for(lambda: not Run.objects.open().exists(), timeout=60, message="all ran once more")
    assert Counter(line.scheduled_at for line in rig.lines("end")) == dict.fromkeys(dates, 2)
    assert ask(rig, "backfill", *words, "--missing") == {"fires": [], "created": 0}
    cursor = Target.objects.get(job=job).next_fire_at
    assert cursor is not None
    assert cursor > now()  # the schedule has not moved


def ask(rig: Rig, *words: str) -> object:
    told = subprocess.run(
        [sys.executable, "manage.py", "jobs", *words, "--json"],
        cwd=ROOT,
        env=rig.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return json.loads(told.stdout)
