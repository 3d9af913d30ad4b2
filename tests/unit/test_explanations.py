"""The sentences about fire times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduling.explanations import explanation
from scheduling.models import Cause, Reason, Run, State

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SOON = NOON + timedelta(minutes=1)


def told(**fields: Any) -> str:
    fields.setdefault("cause", Cause.SCHEDULE)
    fields.setdefault("created_at", NOON)
    return explanation(Run(name="mails", scheduled_at=NOON, **fields), SOON)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"state": State.SUCCEEDED, "started_at": NOON, "ended_at": SOON, "outcome": "changed"},
            "The fire of 2026-01-05 12:00:00 UTC was run and succeeded after 1 minute, "
            "outcome changed.",
        ),
        (
            {
                "state": State.SUCCEEDED,
                "started_at": NOON + timedelta(seconds=30),
                "ended_at": SOON,
                "cause": Cause.CATCH_UP,
            },
            "The missed fire of 2026-01-05 12:00:00 UTC was run 30 seconds late "
            "and succeeded after 30 seconds.",
        ),
        (
            {"state": State.FAILED, "reason": Reason.EXIT_CODE, "exit_code": 3},
            "The fire of 2026-01-05 12:00:00 UTC was run and failed: ended with exit code 3.",
        ),
        (
            {
                "state": State.FAILED,
                "reason": Reason.ERROR,
                "error": "Traceback ...\nValueError: no such mail.\n",
                "attempt": 2,
                "cause": Cause.MANUAL,
            },
            "The run by hand of 2026-01-05 12:00:00 UTC was run and failed: raised an error, "
            "at attempt 2 (ValueError: no such mail).",
        ),
        (
            {"state": State.SKIPPED, "reason": Reason.OVERLAP, "detail": "run 7 was open"},
            "The fire of 2026-01-05 12:00:00 UTC was skipped: the run before was still open "
            "(run 7 was open).",
        ),
        (
            {
                "state": State.SKIPPED,
                "reason": Reason.WINDOW,
                "fires": 3,
                "scheduled_until": SOON,
            },
            "3 fires from 2026-01-05 12:00:00 UTC to 2026-01-05 12:01:00 UTC were skipped: "
            "older than the catch-up window.",
        ),
        (
            {
                "state": State.SKIPPED,
                "reason": Reason.OVERLAP,
                "detail": "the fire of 2026-01-05 12:05:00 UTC took its place",
            },
            "The fire of 2026-01-05 12:00:00 UTC was skipped: by its overlap policy, "
            "the fire of 2026-01-05 12:05:00 UTC took its place.",
        ),
        (
            {"state": State.SKIPPED, "reason": Reason.LATE, "created_at": SOON},
            "The fire of 2026-01-05 12:00:00 UTC was skipped: missed, no beat claimed it until "
            "2026-01-05 12:01:00 UTC, 1 minute late; the catch-up policy 'none' makes up for "
            "nothing.",
        ),
        (
            {"state": State.SKIPPED, "reason": Reason.CANCELLED, "detail": "by anna", "key": "eu"},
            "The fire of 2026-01-05 12:00:00 UTC for 'eu' was skipped: cancelled by anna.",
        ),
        (
            {
                "state": State.SUCCEEDED,
                "started_at": NOON + timedelta(seconds=14),
                "ended_at": SOON,
                "attempt": 3,
                "failures": 2,
            },
            "The fire of 2026-01-05 12:00:00 UTC was run and succeeded after 46 seconds, "
            "at attempt 3 (2 failed).",
        ),
        (
            {
                "state": State.FAILED,
                "reason": Reason.CANCELLED,
                "stop_requested_by": "anna",
                "stop_requested_at": NOON,
            },
            "The fire of 2026-01-05 12:00:00 UTC was run and failed: cancelled by anna.",
        ),
        (
            {"state": State.QUEUED},
            "The fire of 2026-01-05 12:00:00 UTC was queued: no beat has sent it to a worker yet.",
        ),
        (
            {"state": State.QUEUED, "published_at": NOON, "queue": "mails"},
            "The fire of 2026-01-05 12:00:00 UTC was queued: sent to the workers 1 minute ago "
            "on queue 'mails', and none has started it yet.",
        ),
        (
            {
                "state": State.QUEUED,
                "ready_at": SOON + timedelta(minutes=1),
                "reason": Reason.RETRY,
                "attempt": 2,
            },
            "The fire of 2026-01-05 12:00:00 UTC was queued: it may start again at "
            "2026-01-05 12:02:00 UTC (attempt 2: tried again after a failure).",
        ),
        (
            {"state": State.QUEUED, "waiting_for": "printer"},
            "The fire of 2026-01-05 12:00:00 UTC was queued: it waits for the lock 'printer'.",
        ),
        (
            {
                "state": State.RUNNING,
                "started_at": NOON,
                "worker": "celery@here/12",
                "lease_until": SOON - timedelta(seconds=5),
                "stop_requested_at": NOON,
                "stop_requested_by": "anna",
            },
            "The fire of 2026-01-05 12:00:00 UTC was started: attempt 1 has been running on "
            "celery@here/12 since 2026-01-05 12:00:00 UTC, but its worker has been silent beyond "
            "its lease, 2026-01-05 12:00:55 UTC; it was asked to stop by anna 1 minute ago.",
        ),
    ],
)
def test_each_end_and_each_wait_has_its_sentence(fields: dict[str, Any], sentence: str) -> None:
    assert told(**fields) == sentence


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("reason", ["", *Reason])
@pytest.mark.parametrize("cause", Cause)
def test_every_row_that_can_be_has_a_sentence(state: State, reason: str, cause: Cause) -> None:
    sentence = told(state=state, reason=reason, cause=cause)
    assert sentence.startswith("The ")
    assert sentence.endswith(".")
