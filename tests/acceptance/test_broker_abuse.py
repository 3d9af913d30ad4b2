"""A broker on which anybody has written anything: nothing of it is executed, nothing stops."""

from __future__ import annotations

import base64
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from scheduling import runs
from scheduling.models import DeadLetter, Job, Run
from tests.acceptance.rig import Rig, add_job, now
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

QUEUE = "celery"
NOTE = "tests.testapp.jobs.note"
PLAIN = "tests.testapp.jobs.plain"
ENDED = re.compile(r"Task \S+ (?:ignored|succeeded in)")


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def envelope(
    task: str = PLAIN,
    *,
    body: bytes = b'[["forged"], {}, {}]',
    content_type: str = "application/json",
    headers: dict[str, Any] | None = None,
    **changed: Any,
) -> str:
    """A message as Celery writes it, with something else in places."""
    task_id = str(uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": task_id, **(headers or {})},
        "properties": {
            "correlation_id": task_id,
            "delivery_tag": str(uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
        },
    }
    return json.dumps(message | changed)


def garbage() -> list[str | bytes]:
    """Twenty entries of ten kinds that are no messages."""
    kinds: list[str | bytes] = [
        b"\xff\xfe\x00",
        "garbage",
        envelope()[:60],
        "null",
        "[1, 2]",
        "{}",
        "[" * 10_000,
        '{"__type__": "odd", "__value__": 1}',
        envelope(properties=None),
        envelope(body=b"").replace('"body": ""', '"body": [1]'),
    ]
    return 2 * kinds


def spoilt(bomb: Path, finished: Run) -> list[str]:
    """Messages that can be read, and that no worker may work on."""
    return [
        envelope(body=b"{"),
        envelope(body=b"[" * 10_000),
        envelope(body=b"[[], {}]"),
        envelope(body=b"7"),
        envelope(
            body=pickle.dumps(((Bomb(bomb),), {}, {})),
            content_type="application/x-python-serialize",
        ),
        envelope(headers={"compression": "application/x-gzip"}),
        envelope("nobody.knows.this"),
        envelope(headers={"id": None}),
        envelope(headers={"timelimit": "ab"}),
        envelope(headers={"eta": "never"}),
        envelope(NOTE, headers={"jobs_run": "forged"}),
        envelope(NOTE, headers={"jobs_run": [str(uuid4()), 1]}),
        envelope(NOTE, headers={"jobs_run": [str(finished.pk), 99]}),
        envelope(NOTE, headers={"jobs_run": [str(finished.pk), 1]}),
    ]


# The last two of `spoilt` are old messages of ours, which any second delivery looks like.
REPLAYS = 2


def push(client: redis.Redis, *entries: str | bytes) -> None:
    """Put entries on the queue so that the first is delivered first."""
    for entry in entries:
        client.lpush(QUEUE, entry)


def trigger(job: Job) -> Run:
    moment = now()
    runs.adopt(job, now=moment)
    return runs.trigger(job, by="a test", now=moment)


def finish_one(rig: Rig) -> Run:
    run = trigger(add_job("finished"))
    wait_for(lambda: rig.lines("end", "finished"), timeout=30, message="one has run")
    wait_for(lambda: not Run.objects.open().exists(), timeout=10, message="its end is written")
    return run


def abuse(rig: Rig) -> None:
    rig.beat()
    first = rig.worker("first")
    finished = finish_one(rig)
    first.stop()
    bomb = rig.folder / "bomb"
    letters = [*garbage(), *spoilt(bomb, finished)]
    with rig.valkey.client() as client:
        push(client, *letters)
        jobs = [add_job(f"good {n}") for n in range(10)]
        good = [trigger(job).pk for job in jobs]
        wait_for(
            lambda: rig.messages() == len(letters) + len(good),
            timeout=30,
            message=lambda: f"{rig.messages()} messages wait",
        )
    worker = rig.worker("worker")
    wait_for(
        lambda: Run.objects.filter(pk__in=good, state="succeeded").count() == len(good),
        timeout=60,
        message=lambda: list(Run.objects.values("name", "state", "reason")),
    )
    wait_for(
        lambda: DeadLetter.objects.count() == len(letters) - REPLAYS,
        timeout=15,
        message=lambda: list(DeadLetter.objects.values_list("kind", "task", "detail")),
    )
    assert worker.is_alive()
    assert not bomb.exists()
    assert not rig.lines(job="forged")
    assert len(rig.lines("start", "finished")) == 1
    assert len(rig.lines("start")) == len(rig.lines("end")) == 1 + len(good)
    rig.check_oracle()
    assert set(DeadLetter.objects.values_list("worker", flat=True)) == {"worker@rig"}
    kinds = list(DeadLetter.objects.values_list("kind", flat=True))
    assert kinds.count("envelope") == len(garbage())
    assert set(kinds) == {"envelope", "body", "content", "task", "run"}
    with rig.valkey.client() as client:
        assert client.hlen("unacked") == 0
        assert client.llen("jobs:dead_letters") == 0


def test_garbage_on_the_broker_stops_nothing_and_executes_nothing(rig: Rig) -> None:
    abuse(rig)


def test_garbage_on_the_broker_stops_nothing_embedded(embedded_rig: Rig) -> None:
    abuse(embedded_rig)


def redeliver(rig: Rig) -> None:
    """Raw copies of the queue, three of each message, for workers that compete for them."""
    beat = rig.beat()
    jobs = [add_job(f"job {n}") for n in range(40)]
    good = [trigger(job).pk for job in jobs]
    wait_for(lambda: rig.messages() == len(good), timeout=30, message="all are published")
    beat.stop()
    with rig.valkey.client() as client:
        entries = rig.valkey.messages(QUEUE)
        for _ in range(3):
            push(client, *entries)
    workers = [rig.worker(name) for name in ("left", "right")]
    # Celery says of each message what became of it.
    wait_for(
        lambda: (
            sum(len(ENDED.findall(worker.log.read_text())) for worker in workers) == 4 * len(good)
        ),
        timeout=60,
        interval=0.1,
        message="all are worked on",
    )
    assert Run.objects.filter(pk__in=good, state="succeeded").count() == len(good)
    assert len(rig.lines("start")) == len(rig.lines("end")) == len(good)
    rig.check_oracle()
    assert not DeadLetter.objects.exists()


def test_messages_that_are_delivered_four_times_start_once(rig: Rig) -> None:
    redeliver(rig)


def test_messages_that_are_delivered_four_times_start_once_embedded(embedded_rig: Rig) -> None:
    redeliver(embedded_rig)
