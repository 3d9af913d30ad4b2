"""Time limits of jobs inside a worker, by its pool."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.concurrency import gevent as gevent_pool
from celery.concurrency import prefork, solo, thread
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection

from config.celery import app
from scheduling import checks, clock, current_run, health, pools
from scheduling.models import Process, Reason, Run, State
from scheduling.registry import Declaration, registry
from scheduling.schedules import Manual
from tests.factories import make_job, make_run, make_target
from tests.integration.workers import tasks
from tests.integration.workers.conftest import Deliver
from workers import pools as own_pool
from workers import presence

pytestmark = pytest.mark.django_db(transaction=True)

LIMIT = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(own_pool, "_name", "")
    tasks.seen.clear()
    tasks.act.clear()
    declared = list(registry)
    yield
    registry.clear()
    for declaration in declared:
        registry.add(declaration)


def queued(**fields: Any) -> Run:
    return make_run(make_target(make_job(task=f"{tasks.PATH}.remember", **fields)))


@pytest.mark.parametrize(
    ("pool", "name"),
    [
        ("prefork", "prefork"),
        ("processes", "prefork"),
        ("threads", "threads"),
        ("celery.concurrency.thread:TaskPool", "threads"),
        (prefork.TaskPool, "prefork"),
        (thread.TaskPool, "threads"),
        (solo.TaskPool, "solo"),
        (gevent_pool.TaskPool, "gevent"),
        ("theirs.pools:Pool", "theirs.pools:Pool"),
    ],
    ids=str,
)
def test_a_pool_is_known_by_the_name_that_users_type(pool: object, name: str) -> None:
    assert pools.pool_name(pool) == name


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ("prefork", ""),
        ("threads", "its soft limit of 20 seconds and its hard limit of 30 seconds"),
        ("solo", "its soft limit of 20 seconds and its hard limit of 30 seconds"),
        ("gevent", "its soft limit of 20 seconds"),
        ("theirs.pools:Pool", ""),
    ],
)
def test_what_a_pool_does_not_enforce_is_named(pool: str, told: str) -> None:
    assert pools.unenforced(pool, soft=timedelta(seconds=20), hard=LIMIT) == told


@pytest.mark.parametrize("limit", ["soft_limit", "hard_limit"])
def test_a_run_whose_limit_would_be_in_vain_is_refused(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(own_pool, "_name", "threads")
    after = deliver(queued(**{limit: LIMIT}))
    assert (after.state, after.reason) == (State.FAILED, Reason.PERMANENT)
    assert "threads pool of this worker cannot enforce" in after.error
    assert tasks.seen == []


@pytest.mark.parametrize(
    ("pool", "fields"),
    [
        ("threads", {}),  # the default limits are nobody's wish
        ("prefork", {"hard_limit": LIMIT}),
        ("gevent", {"hard_limit": LIMIT}),
        ("", {"hard_limit": LIMIT}),  # `jobs run`, where somebody watches
    ],
)
def test_others_run(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch, pool: str, fields: Any
) -> None:
    monkeypatch.setattr(own_pool, "_name", pool)
    assert deliver(queued(**fields)).state == State.SUCCEEDED


def test_the_hard_limit_of_the_gevent_pool_ends_a_run_as_such(deliver: Deliver) -> None:
    gevent = pytest.importorskip("gevent")

    def expire() -> None:
        raise gevent.Timeout(LIMIT.total_seconds())

    tasks.act.append(expire)
    run = queued(hard_limit=LIMIT)
    with pytest.raises(gevent.Timeout):
        deliver(run)
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILED, Reason.HARD_LIMIT)
    assert run.error == "Ended at its hard limit of 30 s"


def test_a_gevent_timeout_of_the_job_itself_is_an_error_of_it(deliver: Deliver) -> None:
    gevent = pytest.importorskip("gevent")

    def expire() -> None:
        raise gevent.Timeout(5)

    tasks.act.append(expire)
    run = queued(hard_limit=LIMIT)
    with pytest.raises(gevent.Timeout):
        deliver(run)
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILED, Reason.ERROR)


def test_a_soft_limit_that_the_job_swallows_does_not_end_it(deliver: Deliver) -> None:
    """Then the hard limit does, and says so: see the acceptance tests."""

    def swallow() -> None:
        try:
            raise SoftTimeLimitExceeded
        except Exception:
            pass

    tasks.act.append(swallow)
    assert deliver(queued(hard_limit=LIMIT)).state == State.SUCCEEDED


def test_runs_on_threads_know_each_their_own_run(deliver: Deliver) -> None:
    together = threading.Barrier(2)
    found: dict[str, Any] = {}

    def look() -> None:
        together.wait(10)
        found[current_run().key] = current_run().id
        together.wait(10)

    tasks.act.extend([look, look])
    job = make_job(task=f"{tasks.PATH}.remember")
    runs = {key: make_run(make_target(job, key)) for key in "ab"}

    def act(run: Run) -> None:
        deliver(run)
        connection.close()

    threads = [threading.Thread(target=act, args=(run,)) for run in runs.values()]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert found == {key: run.pk for key, run in runs.items()}
    assert set(Run.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


# --- who tells of it ------------------------------------------------------------------------------


def declare(**fields: Any) -> None:
    registry.add(
        Declaration(
            name="books",
            declared_in="function",
            schedule=Manual(),
            **{"kind": "task", "task": "x", "hard_limit": LIMIT, **fields},
        )
    )


def told() -> list[str]:
    found = [each.msg for each in checks.check_celery(None) if each.id == "scheduling.W012"]
    return [message for message in found if "'books'" in message]


@pytest.fixture
def threads_in_settings() -> Iterator[None]:
    app.conf.worker_pool = "threads"
    yield
    app.conf.worker_pool = "prefork"


def test_with_the_prefork_pool_there_is_nothing_to_tell() -> None:
    declare()
    assert told() == []


@pytest.mark.usefixtures("threads_in_settings")
def test_a_check_names_the_jobs_if_the_settings_name_such_a_pool() -> None:
    declare()
    [message] = told()
    assert "threads pool cannot enforce its hard limit of 30 seconds for job 'books'" in message


@pytest.mark.usefixtures("threads_in_settings")
def test_limits_of_external_jobs_hold_with_every_pool() -> None:
    declare(kind="command", task="", command="x", internal=False)
    assert told() == []


def test_a_worker_names_the_jobs_of_its_queues_when_it_starts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_job("mine", hard_limit=LIMIT, options={"queue": "slow"})
    make_job("elsewhere", hard_limit=LIMIT)
    make_job("without")
    detail = {"pool": "threads", "queues": ["slow"]}
    presence.Presence("w@x", detail, default_queue="celery").warn()
    assert "are refused here, give them another queue: mine" in caplog.text
    assert "elsewhere" not in caplog.text


def test_health_names_the_jobs_that_workers_refuse() -> None:
    make_job("a mine", hard_limit=LIMIT)
    now = clock.now()
    worker = Process.objects.create(
        name="w@x",
        kind="worker",
        host="x",
        pid=1,
        started_at=now,
        seen_at=now,
        detail={"pool": "prefork", "queues": ["celery"]},
    )
    assert health.limits(now)[0]
    worker.detail["pool"] = "threads"
    worker.save()
    ok, detail = health.limits(now)
    assert not ok
    assert "a mine (threads)" in detail or "a mine, " in detail
