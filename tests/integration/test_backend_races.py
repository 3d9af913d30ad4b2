"""Two who use the backend at once, with real threads; SQLite has one lock and nobody to race."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from django.db import transaction

from scheduling import backend, clock
from scheduling.models import Run, State, Target
from tests.factories import make_target
from tests.integration.backend_jobs import one_off, one_offs, registered
from tests.integration.rivals import needs_row_locks, side_by_side

pytestmark = [
    pytest.mark.django_db(transaction=True),
    needs_row_locks,
]


def test_two_claimers_are_never_given_the_same_run() -> None:
    registered()
    made = backend.create_runs(one_offs(400))
    taken: list[list[Run]] = []

    def claim() -> None:
        while batch := backend.claim_ready("load", limit=7):
            taken.append(batch)

    side_by_side(claim, claim, claim)
    ids = [run.pk for batch in taken for run in batch]
    assert len(ids) == len(set(ids)) == len(made)


def test_a_claimer_passes_over_what_another_is_claiming() -> None:
    registered()
    backend.create_runs(one_offs(4))
    first: list[Run] = []
    with transaction.atomic():
        mine = backend.claim_ready("load", limit=2)
        side_by_side(lambda: first.extend(backend.claim_ready("load", limit=4)))
    assert len(first) == 2
    assert not {run.pk for run in first} & {run.pk for run in mine}


def test_equal_runs_that_two_ask_for_are_made_once() -> None:
    registered()

    def ask() -> None:
        backend.create_runs(one_offs(50))

    side_by_side(ask, ask)
    assert Run.objects.count() == 50


def test_targets_that_two_make_are_made_once() -> None:
    registered(keyed=True, schedule="every 1h")
    wanted = [backend.NewTarget(job="load", key=str(n)) for n in range(200)]

    def make() -> None:
        assert len(backend.create_targets(wanted)) == 200

    side_by_side(make, make, make)
    assert Target.objects.filter(job__name="load").count() == 200


def test_one_executor_starts_a_run_that_two_believe_to_have() -> None:
    registered()
    run = one_off()
    started: list[str] = []

    def start(worker: str) -> None:
        if backend.start_run(run.pk, worker=worker) is not None:
            started.append(worker)

    side_by_side(lambda: start("a"), lambda: start("b"))
    assert len(started) == 1
    run.refresh_from_db()
    assert run.worker == started[0]


def test_ends_in_bulk_from_two_sides_are_counted_once() -> None:
    job = registered(keyed=True)
    for n in range(20):
        make_target(job, str(n))
    runs = backend.create_runs([backend.NewRun(job="load", key=str(n)) for n in range(20)])
    reports = [backend.RunEnd(id=run.pk, state="failed", at=clock.now()) for run in runs]
    changed: list[object] = []
    side_by_side(
        lambda: changed.extend(backend.end_runs(reports).changed),
        lambda: changed.extend(backend.end_runs(list(reversed(reports))).changed),
    )
    assert len(changed) == len(set(changed)) == 20
    assert set(Run.objects.values_list("state", flat=True)) == {State.FAILED}
    of_job = Target.objects.filter(job=job)
    assert set(of_job.values_list("failures_in_a_row", flat=True)) == {1}


def test_pages_are_whole_while_others_insert() -> None:
    job = registered(keyed=True)
    there = {make_target(job, f"k{n:03}").pk for n in range(100)}
    done = threading.Event()
    seen: list[int] = []

    def insert() -> None:
        while not done.is_set():
            make_target(job, str(uuid4()))

    def read() -> None:
        after = None
        try:
            while True:
                page = backend.search_targets(job="load", order="key", limit=7, after=after)
                seen.extend(target.pk for target in page.rows)
                after = page.next
                if after is None:
                    return
        finally:
            done.set()

    side_by_side(insert, read)
    assert len(seen) == len(set(seen))
    assert there <= set(seen)
