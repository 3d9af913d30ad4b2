"""`jobs locks`: who holds what, who waits, and breaking one with a reason."""

from __future__ import annotations

import pytest

from scheduling import clock, runs
from scheduling.models import Reason, Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db


@pytest.fixture
def held() -> tuple[Run, Run]:
    """(the run of `close_books` that holds `ledger`, the one of `mail_report` that waits)"""
    now = clock.now()
    first, second = (
        make_run(make_target(make_job(name, locks=["ledger"]), key), scheduled_at=now)
        for name, key in (("close_books", "north"), ("mail_report", ""))
    )
    assert runs.start(first.pk, 1, worker="celery@north/7", now=now) is not None
    assert runs.start(second.pk, 1, worker="celery@south/1", now=now) is None
    return first, second


def test_every_held_seat_is_told_with_its_line(held: tuple[Run, Run]) -> None:
    first, second = held
    (row,) = jobs("locks", "--json").document()
    assert row.pop("age") >= 0
    assert row.pop("since").endswith("+00:00")
    (waiter,) = row.pop("waiters")
    assert waiter.pop("since").endswith("+00:00")
    assert waiter == {"run": str(second.pk), "job": "mail_report", "holder": None}
    assert row == {
        "key": "ledger",
        "number": 0,
        "run": str(first.pk),
        "job": "close_books",
        "holder": None,
        "host": "north",
        "held_until": None,
    }
    told = jobs("locks").stdout
    assert f"close_books[north] {first.pk}" in told
    assert f"mail_report {second.pk}" in told


def test_nothing_held_is_said() -> None:
    assert jobs("locks").stdout == "Nobody holds a lock.\n"
    assert jobs("locks", "--json").document() == []


def test_a_broken_lock_ends_its_holder_and_lets_the_next_in(held: tuple[Run, Run]) -> None:
    first, second = held
    told = jobs("locks", "break", "ledger", "--reason", "its host burns", "--json")
    assert (told.code, told.document()) == (0, {"changed": 1})
    first.refresh_from_db()
    assert (first.state, first.reason) == (State.FAILED, Reason.TERMINATED)
    assert "its host burns" in first.error
    assert runs.start(second.pk, 1, worker="celery@south/1", now=clock.now()) is not None
    assert [row["job"] for row in jobs("locks", "--json").document()] == ["mail_report"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("break",), "Name the lock"),
        (("break", "ledger"), "--reason"),
        (("break", "ledger", "--reason", " "), "--reason"),
        (("break", "ledger", "--reason", "x" * 301), "301"),
        (("break", "nothing", "--reason", "x"), "'nothing'"),
        (("--reason", "x"), "jobs locks break KEY"),
        (("smash", "ledger"), "smash"),
    ],
)
def test_what_breaks_nothing_is_bad_input(
    words: tuple[str, ...], told: str, held: tuple[Run, Run]
) -> None:
    answer = jobs("locks", *words, "--json")
    assert answer.code == 2
    assert told in answer.document()["error"]
    held[0].refresh_from_db()
    assert held[0].state == State.RUNNING
