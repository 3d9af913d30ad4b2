"""Who must not wait for whom, with real threads; SQLite has one lock and nobody to wait for."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from scheduling import outbox, runs, sync
from scheduling.models import Run, Target
from tests.factories import NOW, make_job, make_run
from tests.integration.rivals import in_thread, needs_row_locks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    needs_row_locks,
]


def test_a_claim_and_a_saved_row_do_not_wait_for_each_other() -> None:
    interval = IntervalSchedule.objects.create(every=1, period="seconds")
    row = PeriodicTask.objects.create(name="row", task="x", interval=interval)
    target = Target.objects.get(job__name="row")
    assert target.next_fire_at is not None
    fire = target.next_fire_at
    saved, claimed = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def hold_the_claim(fires: Any) -> None:
        claimed.set()
        saved.wait(5)

    def save() -> None:
        with transaction.atomic():
            PeriodicTask.objects.select_for_update().get(pk=row.pk)
            claimed.wait(5)
            saved.set()
            row.priority = 5
            row.save()

    runs.fire_listeners.insert(0, hold_the_claim)
    try:
        saver = in_thread(save, errors)
        claimer = in_thread(lambda: runs.claim(now=fire, limit=10), errors)
        saver.join(20)
        claimer.join(20)
    finally:
        runs.fire_listeners.remove(hold_the_claim)
    assert errors == []
    assert Run.objects.filter(target=target, scheduled_at=fire).count() == 1


def test_stamping_passes_over_a_run_that_is_being_moved_on() -> None:
    first, second = make_run(publish_at=NOW), make_run(publish_at=NOW)
    errors: list[Exception] = []
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=first.pk)
        stamper = in_thread(lambda: outbox._stamp([first, second], epoch="e", now=NOW), errors)
        stamper.join(10)
        assert not stamper.is_alive()
    assert errors == []
    second.refresh_from_db()
    assert second.published_at == NOW


def test_an_override_and_an_edit_of_one_schedule_do_not_wait_for_each_other() -> None:
    job = make_job(schedule="every 1h")
    runs.adopt(job, now=NOW)
    errors: list[Exception] = []
    texts = itertools.cycle(["every 2h", "every 3h", "every 4h"])

    def override() -> None:
        for _ in range(30):
            sync.set_override(job, "schedule", next(texts), by="ann", now=NOW)

    def edit() -> None:
        for _ in range(30):
            runs.reschedule(job, schedule=next(texts), now=NOW)

    threads = [in_thread(override, errors), in_thread(edit, errors)]
    for thread in threads:
        thread.join(30)
    assert errors == []


def test_whoever_freezes_while_it_renews_leases_or_stamps_holds_no_row_for_long() -> None:
    """The server ends its transaction: a reaper would wait for the row."""
    run = make_run(state="running", worker="host/1")
    with CaptureQueriesContext(connection) as queries:
        runs.renew(worker="host/1", run_ids=[run.pk], now=NOW)
    said = [query["sql"] for query in queries]
    limit = next(n for n, sql in enumerate(said) if "idle_in_transaction_session_timeout" in sql)
    assert "FOR NO KEY UPDATE" in said[limit + 1]
