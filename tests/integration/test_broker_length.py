"""How long a queue of the broker is, for whoever feeds it: soon, or not at all."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from scheduling import broker
from tests.services import FOLDER, Valkey


@pytest.fixture
def app(valkey: Valkey) -> Celery:
    return Celery(broker=valkey.broker_url, set_as_current=False)


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """One that a test may freeze."""
    folder = FOLDER / "frozen"
    folder.mkdir(exist_ok=True)
    server = Valkey(folder)
    server.start()
    yield server
    server.kill()


def send(app: Celery, *priorities: int, queue: str = "slow") -> None:
    for priority in priorities:
        app.send_task("any", queue=queue, priority=priority)


def test_every_list_of_the_queue_counts_and_no_other_queue(app: Celery) -> None:
    assert broker.length(app, "slow") == 0
    send(app, 0, 3, 6, 9, 9)
    send(app, 9, queue="other")
    assert broker.length(app, "slow") == 5


def test_what_is_delivered_but_not_acknowledged_counts_for_its_queue(app: Celery) -> None:
    send(app, 0, 9, 9)
    send(app, 9, queue="other")
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue("slow") as slow,
        connection.SimpleQueue("other") as other,
    ):
        taken = [slow.get(block=False), slow.get(block=False)]
        other.get(block=False)
        assert broker.length(app, "slow") == 3
        taken[0].ack()
        assert broker.length(app, "slow") == 2


def test_what_is_no_message_of_kombu_counts_for_no_queue(app: Celery, valkey: Valkey) -> None:
    with valkey.client() as client:
        for number, value in enumerate(("garbage", "[]", json.dumps({"a": 1}))):
            client.hset("unacked", str(number), value)
    assert broker.length(app, "slow") == 0


def test_so_many_unacknowledged_that_reading_them_takes_long_all_count(
    app: Celery, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "LONGEST_READ", 2)
    with valkey.client() as client:
        for number in range(3):
            client.hset("unacked", str(number), "garbage")
    assert broker.length(app, "slow") == 3


def test_a_broker_that_cannot_be_asked_has_no_length() -> None:
    assert broker.length(Celery(broker="memory://", set_as_current=False), "slow") is None


def test_an_absent_broker_is_given_up_soon_and_not_asked_again_at_once() -> None:
    gone = Celery(broker="redis://127.0.0.1:1/0", set_as_current=False)
    assert broker.length(gone, "slow") is None
    began = time.perf_counter()
    assert [broker.length(gone, "slow") for _ in range(100)] == [None] * 100
    assert time.perf_counter() - began < 0.1


def test_a_frozen_broker_holds_nobody_up_and_is_asked_again_later(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Celery(broker=own_valkey.broker_url, set_as_current=False)
    send(app, 9)
    assert broker.length(app, "slow") == 1
    assert own_valkey.process is not None
    os.kill(own_valkey.process.pid, signal.SIGSTOP)
    try:
        began = time.perf_counter()
        assert broker.length(app, "slow") is None
        assert time.perf_counter() - began < 3
    finally:
        os.kill(own_valkey.process.pid, signal.SIGCONT)
    assert broker.length(app, "slow") is None
    monkeypatch.setattr(broker._asker(app), "_silent_until", 0.0)
    found: Any = broker.length(app, "slow")
    assert found == 1
