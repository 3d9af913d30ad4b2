"""Messages that nobody can work on: what is kept of them, where, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from celery.exceptions import InvalidTaskError
from django.db import OperationalError
from kombu.exceptions import ContentDisallowed

from scheduling import redis
from scheduling.models import DeadLetter, Run, Spoilt, State
from tests.factories import make_run
from tests.integration.workers import tasks
from tests.integration.workers.conftest import HOST, Deliver, send
from tests.services import Valkey
from workers import dead_letters, handlers

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = SimpleNamespace(hostname="w@x")


@pytest.fixture(autouse=True)
def empty_list(valkey: Valkey) -> Iterator[None]:
    with valkey.client() as client:
        client.delete(dead_letters.LETTERS, dead_letters.MOVER)
    yield
    dead_letters._kept.clear()


def message(*, headers: Any = None, body: Any = b"", **info: Any) -> Any:
    return SimpleNamespace(headers=headers or {}, body=body, delivery_info=info)


def kept() -> DeadLetter:
    dead_letters.move()
    return DeadLetter.objects.get()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ContentDisallowed("pickle"), Spoilt.CONTENT),
        (InvalidTaskError("no list"), Spoilt.BODY),
        (None, Spoilt.ENVELOPE),
    ],
)
def test_what_celery_rejects_is_kept(error: Exception | None, kind: Spoilt) -> None:
    handlers.rejected(sender=WORKER, message=message(body=b"\x80\x04", routing_key="q"), exc=error)
    letter = kept()
    assert (letter.kind, letter.worker, letter.queue) == (kind, "w@x", "q")
    assert letter.content == "\N{REPLACEMENT CHARACTER}" * 2


def test_an_unknown_task_is_kept_by_its_names_and_without_its_arguments() -> None:
    headers = {"task": "shop.pay", "id": "7", "argsrepr": "('secret',)"}
    sent = message(headers=headers, body=b'[["secret"], {}, {}]', routing_key="q")
    handlers.unknown(sender=WORKER, message=sent, name="shop.pay", id="7", exc=KeyError())
    letter = kept()
    assert (letter.kind, letter.task, letter.message_id) == (Spoilt.TASK, "shop.pay", "7")
    assert "secret" not in str(vars(letter))


def test_an_unknown_task_of_a_run_is_told_by_the_run() -> None:
    run = make_run()
    sent = message(headers={"task": "gone", "id": str(run.pk), "jobs_run": [str(run.pk), 1]})
    handlers.unknown(message=sent, name="gone", id=str(run.pk), exc=KeyError())
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILED, "unknown_task")
    assert dead_letters.move() == 0


def test_a_message_for_a_run_that_does_not_exist_executes_nothing_and_is_kept() -> None:
    nobody = str(uuid4())
    tasks.seen.clear()
    send(f"{tasks.PATH}.remember", task_id="forged", jobs_run=[nobody, 1])
    assert tasks.seen == []
    letter = kept()
    assert (letter.worker, letter.message_id) == (HOST, "forged")
    assert nobody in letter.detail


def test_a_message_that_names_another_task_than_its_run_executes_nothing(deliver: Deliver) -> None:
    run = make_run()
    tasks.seen.clear()
    assert deliver(run, name=f"{tasks.PATH}.remember").state == State.QUEUED
    assert tasks.seen == []
    assert deliver(run).state == State.SUCCEEDED


def test_a_second_delivery_of_a_run_is_nothing_to_keep(deliver: Deliver) -> None:
    run = make_run()
    assert run.job is not None
    for _ in range(2):
        deliver(run)
    assert Run.objects.get().state == State.SUCCEEDED
    assert dead_letters.move() == 0


@pytest.mark.parametrize(
    ("raw", "content", "task"),
    [
        pytest.param(b"garbage", "garbage", "", id="text"),
        pytest.param(b"\x00\xff\x1b[2J", "���[2J", "", id="bytes"),
        pytest.param("a\ud800\u202eb\n", "a?�b\n", "", id="hostile text"),
        pytest.param([1, 2], "[1, 2]", "", id="JSON of another shape"),
        pytest.param(b'{"body": "W1sic2Vj', "", "", id="the beginning of a message"),
        pytest.param(
            b'{"headers": {"task": "shop.pay", "id": "7"}, "x', "", "shop.pay", id="a broken task"
        ),
    ],
)
def test_content_is_harmless_and_shows_no_arguments(raw: Any, content: str, task: str) -> None:
    dead_letters.post_raw(Spoilt.ENVELOPE, raw, queue="q", detail="broken")
    letter = kept()
    assert (letter.content, letter.task) == (content, task)


def test_content_is_bounded() -> None:
    dead_letters.post_raw(Spoilt.ENVELOPE, b"x" * 1_000_000, queue="q", detail="d")
    with redis.client() as client:
        (letter,) = client.lrange(dead_letters.LETTERS, 0, -1)
    assert len(letter) < 10_000
    assert len(kept().content) == dead_letters.CONTENT_LIMIT


def test_names_are_cut_to_what_a_row_takes() -> None:
    dead_letters.post(
        Spoilt.BODY, worker="w" * 999, queue="q" * 999, task=["t"] * 999, message_id="i" * 999
    )
    letter = kept()
    assert (len(letter.worker), len(letter.queue), len(letter.message_id)) == (200, 200, 100)


def test_without_the_database_letters_stay_on_the_list() -> None:
    dead_letters.post(Spoilt.BODY, worker="w")
    away = patch.object(DeadLetter.objects, "bulk_create", side_effect=OperationalError("away"))
    with away, pytest.raises(OperationalError):
        dead_letters.move()
    assert kept().kind == Spoilt.BODY


def test_without_redis_letters_wait_in_the_process() -> None:
    with patch.object(redis, "client", side_effect=redis.RedisError("away")):
        dead_letters.post(Spoilt.BODY, worker="w")
        with pytest.raises(redis.RedisError):
            dead_letters.move()
    assert DeadLetter.objects.count() == 1
    assert dead_letters.move() == 0


def test_one_worker_at_a_time_moves() -> None:
    dead_letters.post(Spoilt.BODY, worker="w")
    with redis.client() as client:
        client.set(dead_letters.MOVER, "1")
        assert dead_letters.move() == 0
        client.delete(dead_letters.MOVER)
    assert dead_letters.move() == 1


def test_only_the_newest_are_kept(settings: Any) -> None:
    settings.JOBS_DEAD_LETTERS = 3
    for number in range(5):
        dead_letters.post(Spoilt.BODY, worker=str(number))
        if number % 2:
            dead_letters.move()
    dead_letters.move()
    kept_of = DeadLetter.objects.order_by("pk").values_list("worker", flat=True)
    assert list(kept_of) == ["2", "3", "4"]


@pytest.mark.parametrize(
    "forged",
    [
        "no json",
        "[]",
        "[" * 100_000,
        json.dumps({"kind": "odd", "received_at": "2026-01-05T00:00:00+00:00"}),
        json.dumps({"kind": "body", "received_at": "yesterday"}),
    ],
)
def test_a_forged_letter_is_dropped_and_holds_up_no_other(forged: str) -> None:
    with redis.client() as client:
        client.rpush(dead_letters.LETTERS, forged)
    dead_letters.post(Spoilt.BODY, worker="w")
    assert kept().worker == "w"


def test_a_forged_letter_with_impossible_texts_is_made_to_fit() -> None:
    forged = {"kind": "body", "received_at": "2026-01-05T00:00:00", "task": {"a": "\0\ud800" * 999}}
    with redis.client() as client:
        client.rpush(dead_letters.LETTERS, json.dumps(forged))
    assert len(kept().task) == 300
