"""backfill, and the choices of trigger, cancel, pause and resume: answers and exit codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduling import clock, runs
from scheduling.models import Circuit, Job, Run, State
from tests.factories import make_job, make_target
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

RANGE = ("--from", "2026-01-01T03:00:00Z", "--to", "2026-01-04T12:00:00Z")
FIRES = [f"2026-01-0{day}T03:00:00+00:00" for day in (2, 3, 4)]


@pytest.fixture(autouse=True)
def no_jobs(db: None) -> None:
    """Begin without the jobs that the code declares, which the migration has synced."""
    Job.objects.all().delete()


@pytest.fixture
def nightly() -> Job:
    job = make_job("nightly", schedule="cron 0 3 * * *")
    make_target(job)
    return job


def document(*words: str, code: int = 0) -> Any:
    told = jobs(*words, "--json")
    assert told.code == code, told
    return told.document()


@pytest.mark.usefixtures("nightly")
class TestBackfill:
    def test_a_dry_run_lists_the_dates_and_makes_nothing(self) -> None:
        answer = document("backfill", "nightly", *RANGE, "--dry-run")

        assert answer == {"fires": FIRES, "created": 0}
        assert not Run.objects.exists()

    def test_it_makes_a_run_for_each_date(self) -> None:
        assert document("backfill", "nightly", *RANGE) == {"fires": FIRES, "created": 3}
        told = Run.objects.order_by("scheduled_at").values_list("scheduled_at", "cause")
        assert [(at.isoformat(), cause) for at, cause in told] == [
            (fire, "backfill") for fire in FIRES
        ]

    def test_newest_first_is_the_order_in_which_they_run(self) -> None:
        assert document("backfill", "nightly", *RANGE, "--newest-first")["fires"] == FIRES[::-1]
        assert Run.objects.get(waiting_on=None).scheduled_at.isoformat() == FIRES[-1]

    def test_all_takes_every_job_that_has_fire_times(self) -> None:
        make_target(make_job("hourly", schedule="every 24h"))
        make_target(make_job("by hand"))

        answer = document("backfill", "--all", *RANGE)

        assert answer["created"] == 6
        assert set(Run.objects.values_list("name", flat=True)) == {"nightly", "hourly"}

    def test_missing_leaves_out_what_is_open(self) -> None:
        document("backfill", "nightly", "--from", RANGE[1], "--to", "2026-01-02T12:00:00Z")

        assert document("backfill", "nightly", *RANGE, "--missing")["fires"] == FIRES[1:]

    def test_people_read_dates_and_how_to_take_it_back(self) -> None:
        told = jobs("backfill", "nightly", *RANGE)

        made = Run.objects.values_list("backfill", flat=True)[0]
        assert f"jobs cancel {made}" in told.stdout
        assert "2026-01-02 03:00:00Z  nightly" in told.stdout
        assert document("cancel", str(made)) == {"changed": 3}

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (("backfill", "nightly"), "--from"),
            (("backfill", *RANGE), "JOB"),
            (("backfill", "nightly", "--all", *RANGE), "--all"),
            (("backfill", "--all", "--key", "a", *RANGE), "--key"),
            (("backfill", "nightly", "--key", "a", *RANGE), "'a'"),
            (("backfill", "nope", *RANGE), "'nope'"),
            (("backfill", "nightly", "--from", RANGE[3], "--to", RANGE[1]), "no range"),
            (("backfill", "nightly", "--from", RANGE[1], "--to", "2099-01-01T00:00:00Z"), "ahead"),
            (("backfill", "nightly", *RANGE, "--overlap", "maybe"), "'maybe'"),
            (("backfill", "nightly", *RANGE, "--max-open", "0"), "'0'"),
        ],
        ids=lambda value: " ".join(value)[:70] if isinstance(value, tuple) else "",
    )
    def test_bad_input_is_named_and_makes_nothing(self, words: tuple[str, ...], named: str) -> None:
        assert named in document(*words, code=2)["error"]
        assert not Run.objects.exists()


def start(run: Run) -> bool:
    return runs.start(run.pk, 1, worker="w", now=clock.now()) is not None


class TestTrigger:
    def test_the_job_is_told_the_chosen_time(self, nightly: Job) -> None:
        row = document("trigger", "nightly", "--as-of", "2026-01-02T03:00:00Z")

        assert (row["scheduled_at"], row["cause"]) == (FIRES[0], "manual")

    def test_overlap_decides_about_what_is_open(self, nightly: Job) -> None:
        document("trigger", "nightly")
        assert start(Run.objects.get())

        assert document("trigger", "nightly", "--overlap", "skip")["state"] == "skipped"
        document("trigger", "nightly", "--overlap", "terminate")

        assert Run.objects.get(state=State.RUNNING).stop_at_once

    def test_overlap_and_delay_contradict_each_other(self, nightly: Job) -> None:
        words = ("trigger", "nightly", "--overlap", "skip", "--delay", "5m")

        assert "--overlap" in document(*words, code=2)["error"]

    def test_cancel_can_kill(self, nightly: Job) -> None:
        document("trigger", "nightly")
        run = Run.objects.get()
        assert start(run)

        document("cancel", str(run.pk), "--kill")

        run.refresh_from_db()
        assert run.stop_at_once


class TestScopes:
    def test_a_circuit_is_paused_and_resumed(self) -> None:
        circuit = Circuit.objects.create(name="edge")
        make_target(make_job("a", schedule="every 1m", circuit=circuit))
        make_target(make_job("b", schedule="every 1m"))

        assert document("pause", "--circuit", "edge", "--reason", "storm") == {"changed": 1}
        assert {row["name"]: row["paused"] for row in document("list")} == {"a": True, "b": False}
        assert document("resume", "--circuit", "edge") == {"changed": 1}

    def test_a_resource_is_paused_and_resumed(self) -> None:
        due = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
        target = make_target(
            make_job("a", schedule="every 1s"), resource="ledger", next_fire_at=due
        )

        assert document("pause", "--resource", "ledger") == {"changed": 1}
        runs.claim(now=clock.now(), limit=10)
        target.refresh_from_db()
        assert target.parked == "paused"
        assert document("resume", "--resource", "ledger", "--missed", "all") == {"changed": 1}
        assert Run.objects.earliest("scheduled_at").scheduled_at == due

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (("pause", "--circuit", "nope"), "'nope'"),
            (("pause", "--resource", "nope"), "'nope'"),
            (("pause", "--circuit", "edge", "--all"), "--all"),
            (("pause", "--resource", "x", "--key", "a"), "--key"),
        ],
    )
    def test_what_is_not_there_is_named(self, words: tuple[str, ...], named: str) -> None:
        assert named in document(*words, code=2)["error"]
