"""The examples of docs/locks.md do what the page says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from celery import current_app
from django.db import transaction
from pytest_django import Settings

from scheduling import clock, lock, runs, sync
from scheduling.errors import LockInTransaction
from scheduling.models import Job, Run, Seat, State
from scheduling.registry import registry
from tests.integration.cli import jobs
from tests.unit.test_docs import examples_of, load, page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def declared(transactional_db: None) -> Iterator[None]:
    """What the examples declare, synced; it goes away again."""
    before = dict(registry._by_name)
    Job.objects.all().delete()
    for code in examples_of("docs/locks.md"):
        if "@job" in code:
            load(code)
    sync.sync(now=clock.now())
    yield
    for name in registry._by_name.keys() - before.keys():
        current_app.tasks.pop(registry._by_name[name].task, None)
    registry._by_name = before


def asked_for(name: str) -> Run:
    return runs.trigger(Job.objects.get(name=name), by="ann", now=clock.now())


def starts(run: Run) -> bool:
    return runs.start(run.pk, run.attempt, worker="w@north/1", now=clock.now()) is not None


def example(word: str) -> str:
    return next(code for code in examples_of("docs/locks.md") if word in code)


@pytest.mark.usefixtures("declared")
def test_jobs_that_name_a_lock_or_each_other_run_one_at_a_time() -> None:
    invoices, closing = asked_for("print_invoices"), asked_for("close_ledger")
    assert starts(invoices)
    assert not starts(closing)
    (seat,) = runs.locks_held(clock.now(), key="ledger")
    assert [waiter.run for waiter in seat.waiters] == [closing]


@pytest.mark.usefixtures("declared")
def test_locks_are_held_until_the_next_fire() -> None:
    run = asked_for("call_partner")
    assert starts(run)
    run.refresh_from_db()
    done = runs.Result(state=State.SUCCEEDED)
    assert runs.finish(run.pk, 1, token=run.token, result=done, now=clock.now())
    (seat,) = runs.locks_held(clock.now(), key="partner api")
    assert seat.held_until == Job.objects.get(name="call_partner").targets.get().next_fire_at


def test_seats_are_a_setting(settings: Settings) -> None:
    settings.JOBS_SEATS = load(example("JOBS_SEATS"))["JOBS_SEATS"]
    assert runs.capacities(["reports", "ledger"]) == {"reports": 4, "ledger": 1}


def test_code_holds_a_lock_and_is_told_its_token() -> None:
    post = load(example("def post"))["post"]
    first, second = post("salaries"), post("rent")
    assert (first, second) == ("salaries under token 1", "rent under token 2")
    assert runs.locks_held(clock.now()) == []


def test_a_transaction_holds_no_lock() -> None:
    with transaction.atomic(), pytest.raises(LockInTransaction), lock("ledger"):
        pass


def test_the_shape_of_the_answer_is_as_shown() -> None:
    until = clock.now() + timedelta(minutes=1)
    Seat.objects.create(
        key="disk", token=1, taken_at=clock.now(), holder="west/1/a", lease_until=until
    )
    (row,) = jobs("locks", "--json").document()
    shown = page("locks").partition("array of `{")[2].partition("}`")[0].replace("\n", " ")
    assert shown.startswith(", ".join(f'"{name}"' for name in row if name != "waiters"))
