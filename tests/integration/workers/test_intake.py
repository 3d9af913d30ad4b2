"""A worker that cannot reach the database takes no messages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from kombu import Message, Queue

from scheduling import clock
from workers import intake

QUEUE = "intake"


@pytest.fixture(autouse=True)
def _lease(settings: Any) -> None:
    settings.JOBS_LEASE = timedelta(seconds=12)


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr(clock, "elapsed", lambda: seconds[0])
    return seconds


def test_who_never_said_that_it_is_there_may_take_messages() -> None:
    assert intake.is_open()


def test_the_gate_closes_before_leases_lapse_and_opens_with_the_next_answer(
    elapsed: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    intake.answered()
    elapsed[0] += 8
    assert intake.is_open()
    elapsed[0] += 0.1
    assert not intake.is_open()
    assert not intake.is_open()
    assert caplog.text.count("no messages are taken") == 1
    intake.answered()
    assert intake.is_open()
    assert "answers again" in caplog.text


def test_what_is_on_the_queue_stays_there_meanwhile(valkey: Any) -> None:
    app = Celery("intake", broker=valkey.broker_url, set_as_current=False)
    got: list[Any] = []

    def take(body: Any, message: Message) -> None:
        got.append(body)
        message.ack()

    with app.connection_for_write() as connection:
        queue = Queue(QUEUE)(connection.default_channel)
        queue.declare()
        connection.Producer().publish({"n": 1}, routing_key=QUEUE)
        intake._answered_at = clock.elapsed() - 9
        with connection.Consumer([queue], callbacks=[take]):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=1.5)
            assert got == []
            intake.answered()
            connection.drain_events(timeout=10)
    assert got == [{"n": 1}]
