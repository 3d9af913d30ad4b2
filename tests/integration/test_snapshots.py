"""Checkpoints, and what they prevent after an older database was restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django_celery_beat.models import ClockedSchedule, PeriodicTask

from scheduling import runs, snapshots
from scheduling.models import Installation, Job, Parked, Reason, Resource, Run, State, Target
from scheduling.policies import CatchUp
from scheduling.snapshots import FileStore, Restored, Store
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.backups import Backup, beat, end

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def no_other_jobs() -> None:
    """Those that the code declares are made by migrating."""
    Job.objects.all().delete()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "checkpoint.json", str(runs.installation().key))


def restore_older(backup: Backup, store: Store, *, now: datetime) -> Restored:
    backup.restore()
    return snapshots.compare(store, now=now)


def fired(target: Target) -> list[datetime]:
    """Return the fire times that have runs, not skips."""
    rows = Run.objects.filter(target=target).exclude(state=State.SKIPPED)
    return sorted(rows.values_list("scheduled_at", flat=True))


def accounted(target: Target) -> int:
    return sum(Run.objects.filter(target=target).values_list("fires", flat=True))


# --- what has fired is not fired again ------------------------------------------------------------


def test_fires_since_the_backup_become_one_skipped_row(store: FileStore) -> None:
    job = make_job("tick", schedule="every 1m")
    target = runs.adopt(job, now=NOW)
    beat(NOW + 10 * MINUTE)
    backup = Backup()
    beat(NOW + 30 * MINUTE)
    snapshots.take(store, now=NOW + 30 * MINUTE)
    found = restore_older(backup, store, now=NOW + 40 * MINUTE)
    assert (found.is_older, found.jobs) == (True, {"tick": 20})
    row = Run.objects.get(state=State.SKIPPED)
    assert (row.scheduled_at, row.scheduled_until) == (NOW + 11 * MINUTE, NOW + 30 * MINUTE)
    assert (row.fires, row.reason) == (20, Reason.COALESCED)
    assert "known from the checkpoint of 2026-01-05 12:30:00 UTC" in row.detail
    # What came after the checkpoint is missed, and the job's own policy decides.
    beat(NOW + 42 * MINUTE, since=NOW + 40 * MINUTE)
    assert fired(target) == [NOW + n * MINUTE for n in (*range(1, 11), 40, 41, 42)]
    assert accounted(target) == 42


@pytest.mark.parametrize(
    ("schedule", "fires"),
    [
        ("every 7m", 9),
        ("cron */5 * * * *", 12),
        ("cron 30 12 * * *", 1),
        ("times 12:10 12:40", 2),
        ("once 2026-01-05T12:20:00+00:00", 1),
        ("every 20m | cron 10 * * * *", 4),
        ("cron */10 * * * * * *", 360),
    ],
)
def test_every_kind_of_schedule_is_counted_as_it_fired(
    store: FileStore, schedule: str, fires: int
) -> None:
    job = make_job(schedule=schedule, catch_up="all", catch_up_window=DAY)
    target = runs.adopt(job, now=NOW)
    backup = Backup()
    beat(NOW + HOUR)
    assert accounted(target) == fires
    cursor = Target.objects.get().next_fire_at
    snapshots.take(store, now=NOW + HOUR)
    assert restore_older(backup, store, now=NOW + HOUR).refused == fires
    assert accounted(target) == fires
    assert fired(target) == []
    assert Run.objects.count() == 1
    assert Target.objects.get().next_fire_at == cursor


def test_more_fires_than_one_plan_looks_at_are_one_row_too(store: FileStore) -> None:
    job = make_job(schedule="cron * * * * * * *")
    make_target(job, next_fire_at=NOW)
    backup = Backup()
    Target.objects.update(next_fire_at=NOW + 4 * HOUR)
    snapshots.take(store, now=NOW + 4 * HOUR - timedelta(seconds=1))
    assert restore_older(backup, store, now=NOW + 5 * HOUR).refused == 4 * 3600
    assert Run.objects.get().fires == 4 * 3600


def test_each_target_goes_on_from_where_it_had_come(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.runs.restored.BATCH", 2)
    job = make_job("watch", schedule="every 10m")
    for number in range(5):
        make_target(job, str(number), next_fire_at=NOW)
    slow = make_target(job, "own", schedule="every 1h", next_fire_at=NOW)
    behind = make_target(job, "behind", next_fire_at=NOW)
    backup = Backup()
    Target.objects.update(next_fire_at=NOW + HOUR)
    # Nobody had claimed these when the checkpoint was taken.
    Target.objects.filter(pk=behind.pk).update(next_fire_at=NOW + 30 * MINUTE)
    taken = snapshots.take(store, now=NOW + 55 * MINUTE)
    assert taken is not None
    assert taken.cursors == {"watch": {"behind": NOW + 30 * MINUTE}}
    found = restore_older(backup, store, now=NOW + HOUR)
    assert found.refused == 5 * 6 + 1 + 3
    slow.refresh_from_db()
    behind.refresh_from_db()
    assert slow.next_fire_at == NOW + HOUR
    assert behind.next_fire_at == NOW + 30 * MINUTE
    assert set(Target.objects.exclude(key="behind").values_list("next_fire_at", flat=True)) == {
        NOW + HOUR
    }


def test_a_pause_counted_from_a_runs_end_begins_anew(store: FileStore) -> None:
    job = make_job("rest", schedule="every 30m after end")
    target = runs.adopt(job, now=NOW)
    backup = Backup()
    beat(NOW + 3 * HOUR)
    assert len(fired(target)) == 6
    snapshots.take(store, now=NOW + 3 * HOUR + MINUTE)
    assert restore_older(backup, store, now=NOW + 4 * HOUR).jobs == {"rest": 1}
    assert Target.objects.get().next_fire_at == NOW + 4.5 * HOUR
    assert fired(target) == []


def test_a_job_has_no_more_runs_left_than_it_had(store: FileStore) -> None:
    counted = runs.adopt(make_job("counted", schedule="every 10m", runs_left=9), now=NOW)
    done = runs.adopt(make_job("done", schedule="every 10m", runs_left=2), now=NOW)
    backup = Backup()
    beat(NOW + 40 * MINUTE)
    snapshots.take(store, now=NOW + 40 * MINUTE)
    restore_older(backup, store, now=NOW + 40 * MINUTE)
    assert dict(Job.objects.values_list("name", "runs_left")) == {"counted": 5, "done": 0}
    counted.refresh_from_db()
    done.refresh_from_db()
    assert (counted.next_fire_at, done.next_fire_at) == (NOW + 50 * MINUTE, None)


def test_a_row_that_fires_once_is_disabled_and_knows_when_it_ran(store: FileStore) -> None:
    from scheduling.declarations import periodic

    clocked = ClockedSchedule.objects.create(clocked_time=NOW + 10 * MINUTE)
    PeriodicTask.objects.create(
        name="remind", task="tests.testapp.jobs.plain", clocked=clocked, one_off=True
    )
    periodic.sync_rows(None, now=NOW)
    backup = Backup()
    beat(NOW + 20 * MINUTE)
    snapshots.take(store, now=NOW + 20 * MINUTE)
    assert restore_older(backup, store, now=NOW + HOUR).jobs == {"remind": 1}
    row = PeriodicTask.objects.get()
    assert (row.enabled, row.last_run_at) == (False, NOW + 10 * MINUTE)
    beat(NOW + HOUR, since=NOW + HOUR)
    assert not Run.objects.exclude(state=State.SKIPPED).exists()


def test_a_job_that_learns_its_next_event_when_it_fires_goes_through_all_that_are_known(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(schedule=f"once {NOW.isoformat()}", periodic_task_id=1)
    target = make_target(job, next_fire_at=NOW)

    def learn(fires: Sequence[runs.ClaimedFire]) -> None:
        following = fires[0].scheduled_at + HOUR
        Job.objects.update(schedule=f"once {following.isoformat()}")
        Target.objects.update(next_fire_at=following)

    backup = Backup()
    Target.objects.update(next_fire_at=NOW + DAY)
    snapshots.take(store, now=NOW + 2.5 * HOUR)
    monkeypatch.setattr("scheduling.runs.settle.fire_listeners", [learn])
    assert restore_older(backup, store, now=NOW + DAY).refused == 3
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 3 * HOUR


# --- pauses, retirement, what cannot be read ------------------------------------------------------


@pytest.mark.parametrize("scope", ["everything", "job", "resource", "target"])
def test_what_is_paused_in_the_backup_stays_so_and_owes_only_what_is_not_known(
    store: FileStore, scope: str
) -> None:
    target = make_target(
        make_job(schedule="every 10m"), "a", resource="a", next_fire_at=NOW + 10 * MINUTE
    )
    scopes: dict[str, Callable[[], Any]] = {
        "everything": runs.installation,
        "job": Job.objects.get,
        "resource": Resource.objects.get,
        "target": Target.objects.get,
    }
    runs.pause(scopes[scope](), by="anna", reason="audit", now=NOW)
    runs.claim(now=NOW + 10 * MINUTE, limit=1)
    backup = Backup()
    runs.resume(scopes[scope](), by="anna", now=NOW + 15 * MINUTE)
    beat(NOW + HOUR, since=NOW + 15 * MINUTE)
    snapshots.take(store, now=NOW + HOUR)
    assert restore_older(backup, store, now=NOW + HOUR).refused == 6
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (None, Parked.PAUSED)
    assert target.parked_cursor == NOW + 70 * MINUTE
    runs.resume(scopes[scope](), by="anna", missed=CatchUp.ALL, now=NOW + 85 * MINUTE)
    assert fired(target) == [NOW + 70 * MINUTE, NOW + 80 * MINUTE]
    assert accounted(target) == 8


def test_what_was_paused_at_the_checkpoint_owes_what_it_owed(store: FileStore) -> None:
    target = runs.adopt(make_job(schedule="every 10m"), now=NOW)
    backup = Backup()
    beat(NOW + 20 * MINUTE)
    runs.pause(Job.objects.get(), by="anna", reason="audit", now=NOW + 20 * MINUTE)
    runs.claim(now=NOW + 30 * MINUTE, limit=1)
    taken = snapshots.take(store, now=NOW + HOUR)
    assert taken is not None
    assert list(taken.cursors.values()) == [{"": NOW + 30 * MINUTE}]
    assert restore_older(backup, store, now=NOW + HOUR).refused == 2
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 30 * MINUTE


def test_a_pause_from_the_end_that_is_paused_is_left_to_whoever_resumes_it(
    store: FileStore,
) -> None:
    make_target(make_job(schedule="every 10m after end"), parked=Parked.PAUSED, parked_cursor=NOW)
    backup = Backup()
    Target.objects.update(parked_cursor=NOW + DAY)
    snapshots.take(store, now=NOW + HOUR)
    assert restore_older(backup, store, now=NOW + HOUR).refused == 0


def test_what_is_retired_or_cannot_be_read_or_is_unknown_is_left_alone(store: FileStore) -> None:
    gone = make_job(schedule="every 1m", retired_at=NOW)
    left_alone = [
        make_target(gone, next_fire_at=NOW),
        make_target(make_job(schedule="every 1m"), next_fire_at=NOW, retired_at=NOW),
        make_target(make_job(schedule="now and then"), next_fire_at=NOW),
    ]
    backup = Backup()
    Target.objects.update(next_fire_at=NOW + DAY)
    snapshots.take(store, now=NOW + HOUR)
    backup.restore()
    left_alone.append(make_target(make_job("new", schedule="every 1m"), next_fire_at=NOW))
    assert snapshots.compare(store, now=NOW + HOUR).refused == 0
    for target in left_alone:
        target.refresh_from_db()
        assert target.next_fire_at == NOW
    assert not Run.objects.exists()


# --- queued runs ----------------------------------------------------------------------------------


def test_a_run_that_was_queued_in_the_backup_and_has_run_since_does_not_run_again(
    store: FileStore,
) -> None:
    job = make_job("night")
    done, waits = (make_run(make_target(job, key)) for key in ("done", "waits"))
    backup = Backup()
    end(done, NOW)
    lost = make_run(make_target(job, "lost"), scheduled_at=NOW + MINUTE)
    snapshots.take(store, now=NOW + HOUR)
    found = restore_older(backup, store, now=NOW + HOUR)
    assert found.jobs == {"night": 1}
    done.refresh_from_db()
    waits.refresh_from_db()
    assert (done.state, done.reason) == (State.SKIPPED, Reason.COALESCED)
    assert waits.state == State.QUEUED
    (told,) = found.waiting
    assert (told.job, told.key, told.scheduled_at) == ("night", "lost", NOW + MINUTE)
    assert not Run.objects.filter(pk=lost.pk).exists()


def test_runs_asked_for_after_the_checkpoint_are_left_alone(store: FileStore) -> None:
    snapshots.take(store, now=NOW)
    Installation.objects.update(checkpoints=0)
    run = make_run(created_at=NOW + MINUTE)
    snapshots.compare(store, now=NOW + HOUR)
    run.refresh_from_db()
    assert run.state == State.QUEUED


def test_with_very_many_waiting_runs_those_that_found_no_room_are_not_refused(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("taking", "restoring"):
        monkeypatch.setattr(f"scheduling.snapshots.{module}.MOST_WAITING", 2)
    target = make_target()
    waiting = [make_run(target, scheduled_at=NOW + n * MINUTE) for n in range(4)]
    ran = make_run(target, scheduled_at=NOW)
    backup = Backup()
    ran.delete()
    taken = snapshots.take(store, now=NOW + HOUR)
    assert taken is not None
    assert len(taken.waiting) == 2
    restore_older(backup, store, now=NOW + HOUR)
    queued = set(Run.objects.filter(state=State.QUEUED).values_list("pk", flat=True))
    assert queued == {run.pk for run in waiting}


# --- half done, done twice, tried only ------------------------------------------------------------


def two_jobs_restored(store: Store) -> list[Target]:
    targets = [make_target(make_job(n, schedule="every 1m"), next_fire_at=NOW) for n in "ab"]
    backup = Backup()
    Target.objects.update(next_fire_at=NOW + HOUR)
    snapshots.take(store, now=NOW + HOUR - MINUTE)
    backup.restore()
    return targets


def test_a_dry_run_says_the_same_and_writes_nothing(store: FileStore) -> None:
    two_jobs_restored(store)
    make_run(make_target(make_job("c")))
    tried = snapshots.compare(store, now=NOW + HOUR, dry_run=True)
    assert not Run.objects.filter(state=State.SKIPPED).exists()
    assert runs.installation().checkpoints == 0
    assert set(Target.objects.filter(job__name__in="ab").values_list("next_fire_at")) == {(NOW,)}
    assert tried.jobs == {"a": 60, "b": 60}
    assert snapshots.compare(store, now=NOW + HOUR).jobs == tried.jobs


def test_a_beat_that_dies_halfway_leaves_the_rest_to_the_next(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_jobs_restored(store)
    refuse = runs.refuse_fired

    def die_at_b(job: Job, *args: Any, **kwargs: Any) -> int:
        if job.name == "b":
            raise KeyboardInterrupt
        return refuse(job, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(runs, "refuse_fired", die_at_b)
        with pytest.raises(KeyboardInterrupt):
            snapshots.compare(store, now=NOW + HOUR)
    assert runs.installation().checkpoints == 0
    assert snapshots.compare(store, now=NOW + HOUR).jobs == {"b": 60}
    assert runs.installation().checkpoints == 1
    assert [run.fires for run in Run.objects.all()] == [60, 60]
    assert not snapshots.compare(store, now=NOW + HOUR).is_older


def test_a_rival_that_does_the_same_meanwhile_is_not_repeated(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduling.runs import restored

    targets = two_jobs_restored(store)
    write = restored._write
    rival: list[Restored] = []

    def rival_first(*args: Any, **kwargs: Any) -> int:
        if not rival:
            monkeypatch.setattr(restored, "_write", write)
            rival.append(snapshots.compare(store, now=NOW + HOUR))
        return write(*args, **kwargs)

    monkeypatch.setattr(restored, "_write", rival_first)
    assert snapshots.compare(store, now=NOW + HOUR).refused == 0
    assert rival[0].refused == 120
    assert [accounted(target) for target in targets] == [60, 60]
