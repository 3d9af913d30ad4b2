"""Ends at the same moment, with real threads; SQLite has one lock and nobody to wait for."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from scheduling import runs
from scheduling.models import Run, State, Target
from scheduling.runs import joins
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.chains import begin, end, follower, followers, job, join, tie
from tests.integration.rivals import in_thread

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock"),
]

DONE = runs.Result(state=State.SUCCEEDED)


def finish_together(ended: list[Run], monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Let no end go on to its joins before all of them have been written, uncommitted."""
    tokens = [begin(run).token for run in ended]
    all_written = threading.Barrier(len(ended), timeout=20)
    lock_root = joins.lock_root

    def lock_after_all(run: Run) -> Run:
        all_written.wait()
        return lock_root(run)

    monkeypatch.setattr(joins, "lock_root", lock_after_all)
    errors: list[Exception] = []

    def finisher(run: Run, token: int) -> Any:
        return lambda: runs.finish(run.pk, 1, token=token, result=DONE, now=NOW)

    threads = [
        in_thread(finisher(run, token), errors) for run, token in zip(ended, tokens, strict=True)
    ]
    for thread in threads:
        thread.join(20)
    return errors


def test_of_two_parents_that_end_at_once_the_later_starts_the_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, left, right, last = (job(name) for name in ("first", "left", "right", "last"))
    tie(first, left)
    tie(first, right)
    join(last, left, right)
    end(make_run(Target.objects.get(job=first)))
    assert finish_together([follower("left"), follower("right")], monkeypatch) == []
    assert follower("last").joined


def test_ends_that_make_the_same_targets_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both make targets of two keyed followers; the rules of one were made the other way round."""
    first, left, right = (job(name, "north") for name in ("first", "left", "right"))
    early, late, last = make_job("early"), make_job("late"), job("last")
    tie(first, left)
    tie(first, right)
    tie(left, early)
    tie(left, late)
    tie(right, late)
    tie(right, early)
    join(last, left, right)
    end(make_run(Target.objects.get(job=first)))
    assert finish_together([follower("left"), follower("right")], monkeypatch) == []
    assert Target.objects.filter(key="north", job__in=(early, late)).count() == 2
    assert len(followers("early", "late")) == 4
    assert follower("last").joined


def test_a_join_that_another_has_made_is_not_made_again() -> None:
    """The constraint decides, should the lock on the first run ever fail."""
    first, last = make_run(state=State.SUCCEEDED), make_target(make_job("last"))
    rows = [
        Run(
            job=last.job,
            target=last,
            name="last",
            scheduled_at=NOW,
            created_at=NOW,
            cause="follow_up",
            state=State.QUEUED,
            root=first,
            joined=True,
        )
        for _ in range(2)
    ]
    Run.objects.bulk_create(rows, ignore_conflicts=True)
    assert len(followers("last")) == 1
