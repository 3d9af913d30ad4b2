"""Tasks that are no jobs: each message leaves one row, whatever becomes of it in a real worker."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery

from scheduling.models import Run
from tests.acceptance.rig import Process, Rig
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

PATH = "tests.testapp.foreign"
Row = tuple[str, str, int]


class Sender:
    """Somebody who sends tasks and knows nothing of Beatkeeper."""

    def __init__(self, rig: Rig) -> None:
        self.app = Celery("somebody", broker=rig.valkey.broker_url, set_as_current=False)

    def __call__(self, name: str, *args: Any, **options: Any) -> UUID:
        task_id = uuid4()
        self.app.send_task(f"{PATH}.{name}", args, task_id=str(task_id), **options)
        return task_id


def row(pk: UUID) -> Row | None:
    return Run.objects.filter(pk=pk).values_list("state", "reason", "attempt").first()


def wait_for_rows(expected: dict[UUID, Row], *, timeout: float = 30) -> None:
    wait_for(
        lambda: all(row(pk) == end for pk, end in expected.items()),
        timeout=timeout,
        message=lambda: {
            f"{expected[run.pk]}": (run.state, run.reason, run.attempt, run.error[-200:])
            for run in Run.objects.filter(pk__in=expected)
        },
    )


def running(pk: UUID) -> Run:
    wait_for(lambda: row(pk) == ("running", "", 1), timeout=30, message=lambda: row(pk))
    return Run.objects.get(pk=pk)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_becomes_of_a_task_is_written_down_once(rig: Rig, pool: str) -> None:
    send = Sender(rig)
    revoked = send("succeed")
    worker = start_worker(rig, pool)
    ends: dict[UUID, Row] = {
        send("succeed", "secret"): ("succeeded", "", 1),
        send("fail", "secret"): ("failed", "error", 1),
        send("retry_once"): ("succeeded", "", 2),
        send("succeed", expires=datetime.now(UTC) - timedelta(hours=1)): ("skipped", "late", 1),
    }
    wait_for_rows(ends | {revoked: ("succeeded", "", 1)})
    for told in ("error", "detail", "output"):
        assert not Run.objects.filter(**{f"{told}__contains": "secret"}).exists()
    assert Run.objects.get(reason="error").error.endswith("ValueError: broken\n")
    worker.stop()
    assert Run.objects.count() == 1 + len(ends)


def start_worker(rig: Rig, pool: str, name: str = "worker") -> Process:
    worker = rig.start(
        name,
        *("celery", "-A", "config", "worker", "--loglevel", "INFO", "--pool", pool),
        *("--concurrency", "3", "--without-gossip", "--without-mingle"),
        *("--hostname", f"{name}@rig"),
    )
    wait_for(lambda: worker.says(r"ready\."), timeout=30, message="the worker is ready")
    return worker


def test_what_ends_a_process_is_written_down_once(rig: Rig) -> None:
    send = Sender(rig)
    worker = start_worker(rig, "prefork")
    go = str(rig.folder / "go")
    limited = send("hold", go, time_limit=1)
    wait_for_rows({limited: ("failed", "hard_limit", 1)})
    killed, ended = send("hold", go), send("hold", go)
    os.kill(int(running(killed).worker.rpartition("/")[2]), signal.SIGKILL)
    wait_for_rows({killed: ("failed", "lost", 1)})
    running(ended)
    send.app.control.revoke(str(ended), terminate=True)
    wait_for_rows({ended: ("failed", "terminated", 1)})
    early = uuid4()
    send.app.control.revoke(str(early))
    wait_for(lambda: worker.says(str(early)), timeout=10, message="it is known as revoked")
    send.app.send_task(f"{PATH}.succeed", task_id=str(early))
    wait_for_rows({early: ("skipped", "cancelled", 1)})
    worker.stop()
    assert Run.objects.count() == 4


@pytest.mark.parametrize("is_started_again", [True, False])
def test_what_a_killed_worker_was_doing_is_found_lost(rig: Rig, is_started_again: bool) -> None:
    send = Sender(rig)
    rig.beat()
    victim = start_worker(rig, "prefork")
    held = send("hold", str(rig.folder / "go"))
    running(held)
    victim.kill()
    if is_started_again:  # with the same name, as a supervisor does
        start_worker(rig, "prefork")
    wait_for_rows({held: ("failed", "lost", 1)}, timeout=40)
