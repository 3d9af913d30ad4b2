"""Which name the state of a job has, and the shape of a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from scheduling.ledger import JobFacts, JobState, derive_state, run_as_dict, sentence_of
from scheduling.models import Job, Run

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
WELL = {"targets": 1, "next_fire_at": NOON, "has_started": True}


@pytest.mark.parametrize(
    ("facts", "job", "paused", "state"),
    [
        ({}, {}, False, JobState.INITIALIZING),
        ({"targets": 1, "next_fire_at": NOON}, {}, False, JobState.INITIALIZING),
        (WELL, {}, False, JobState.RUNNING),
        ({**WELL, "next_fire_at": None}, {}, False, JobState.FINISHED),
        ({**WELL, "next_fire_at": None, "follows": ("after a ends",)}, {}, False, JobState.RUNNING),
        ({**WELL, "next_fire_at": None, "queued": 1}, {}, False, JobState.RUNNING),
        ({**WELL, "failing": True}, {}, False, JobState.FAILED),
        (WELL, {"schedule_error": "?"}, False, JobState.FAILED),
        (WELL, {}, True, JobState.STOPPED),
        ({**WELL, "failing": True}, {}, True, JobState.STOPPED),
        ({**WELL, "queued": 1}, {}, True, JobState.STOPPED),
        ({**WELL, "running": 1}, {}, True, JobState.RUNNING),
        ({**WELL, "running": 1, "failing": True}, {}, False, JobState.RUNNING),
        ({**WELL, "running": 1, "retrying": True}, {}, False, JobState.RETRYING),
        ({**WELL, "queued": 1, "retrying": True}, {}, False, JobState.RETRYING),
        (WELL, {"retired_at": NOON}, False, JobState.FINISHED),
        ({**WELL, "running": 1}, {"retired_at": NOON}, False, JobState.RUNNING),
    ],
)
def test_the_state_of_a_job_follows_from_its_facts(
    facts: dict[str, Any], job: dict[str, Any], paused: bool, state: JobState
) -> None:
    assert derive_state(Job(**job), JobFacts(**facts), paused=paused) == state


def test_times_are_told_in_utc_and_what_does_not_apply_is_none() -> None:
    berlin = timezone(timedelta(hours=1))
    run = Run(
        id=UUID(int=1),
        name="mails",
        key="a",
        scheduled_at=NOON.astimezone(berlin),
        cause="schedule",
        state="queued",
        output="x",
    )
    assert run_as_dict(run) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "job": "mails",
        "key": "a",
        "scheduled_at": "2026-01-05T12:00:00+00:00",
        "cause": "schedule",
        "fires": 1,
        "state": "queued",
        "reason": None,
        "attempt": 1,
        "published_at": None,
        "started_at": None,
        "ended_at": None,
        "outcome": None,
        "output": "x",
    }
    assert "output" not in run_as_dict(run, with_output=False)


def test_a_schedule_that_cannot_be_read_is_told_instead_of_raised() -> None:
    assert sentence_of(Job(schedule="every 5m")) == "every 5 minutes"
    assert sentence_of(Job(schedule="now")).startswith("cannot be read: ")


@pytest.mark.parametrize(
    ("schedule", "facts", "sentence"),
    [
        ("manual", {}, "only by hand"),
        ("manual", {"follows": ("after a ends",)}, "after a ends"),
        ("manual", {"follows": ("after a ends", "after b fails")}, "after a ends or after b fails"),
        ("every 5m", {"follows": ("after a succeeds",)}, "every 5 minutes; after a succeeds"),
        ("manual", {"targets": 3}, "only by hand"),
        ("manual", {"targets": 1, "own_schedules": 1}, "1 target, with its own schedule"),
        ("manual", {"targets": 3, "own_schedules": 3}, "3 targets, each with its own schedule"),
        ("manual", {"targets": 3, "own_schedules": 2}, "2 of 3 targets with their own schedule"),
        (
            "every 5m",
            {"targets": 3, "own_schedules": 2},
            "every 5 minutes; 2 of 3 targets with their own schedule",
        ),
    ],
)
def test_the_sentence_tells_all_that_starts_a_job(
    schedule: str, facts: dict[str, Any], sentence: str
) -> None:
    assert sentence_of(Job(schedule=schedule), JobFacts(**facts)) == sentence


def test_a_job_that_cannot_fire_says_why_first() -> None:
    broken = Job(schedule="manual", schedule_error="the package ephem is missing")
    assert sentence_of(broken) == "does not fire: the package ephem is missing"
