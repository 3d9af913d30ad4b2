"""What is no message ends no worker: the transport and the consumer, each with a real broker."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection, Queue
from kombu.transport import get_transport_cls

from scheduling.models import DeadLetter
from tests.services import Valkey
from workers import dead_letters, transport
from workers.consumer import problem_of

QUEUE = "careful"


def envelope(**changed: Any) -> dict[str, Any]:
    """A message as kombu writes it, with something else in places."""
    properties = {
        "delivery_tag": "tag",
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "body_encoding": "base64",
        **changed.pop("properties", {}),
    }
    return {
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": properties,
        **changed,
    }


BROKEN: dict[str, str | bytes] = {
    "no text": b"\xff\xfe\x00",
    "no JSON": "garbage",
    "the beginning of a message": json.dumps(envelope())[:40],
    "nothing": "null",
    "a number": "7",
    "a list": "[1, 2]",
    "an empty mapping": "{}",
    "nested deep": "[" * 100_000,
    "an unknown type": '{"__type__": "odd", "__value__": 1}',
    "a hostile type": '{"__type__": "uuid", "__value__": {"int": -1}}',
    "no properties": json.dumps({**envelope(), "properties": None}),
    "no tag": json.dumps(envelope(properties={"delivery_tag": None})),
    "no exchange": json.dumps(envelope(properties={"delivery_info": {}})),
    "a body that is no base64": json.dumps(envelope(body="x")),
    "a body that is no text": json.dumps(envelope(body=[1])),
    "headers that are a list": json.dumps(envelope(headers=["compression"])),
}


@pytest.fixture
def received(valkey: Valkey) -> list[Any]:
    """What a consumer of the queue, which is empty at first, has received."""
    with valkey.client() as client:
        client.delete(QUEUE, "unacked", "unacked_index", dead_letters.LETTERS, dead_letters.MOVER)
    return []


def drain(valkey: Valkey, received: list[Any]) -> None:
    def take(body: Any, message: Any) -> None:
        received.append(body)
        message.ack()

    with connect(valkey) as connection:
        with connection.Consumer(Queue(QUEUE), callbacks=[take]):
            while not received:
                connection.drain_events(timeout=5)
        close(connection)


def close(connection: Any) -> None:
    """As a worker does that stops: what is not acknowledged goes back to the queue."""
    connection.default_channel.close()


def connect(valkey: Valkey) -> Connection:
    return Connection(valkey.broker_url, transport=transport.Transport)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("raw", BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_message_is_put_aside_and_the_next_is_delivered(
    valkey: Valkey, received: list[Any], raw: str | bytes
) -> None:
    with valkey.client() as client:
        client.lpush(QUEUE, raw)
        client.lpush(QUEUE, json.dumps(envelope()))
        drain(valkey, received)
        assert received == [[[], {}, {}]]
        assert client.hlen("unacked") == 0
    dead_letters.move()
    letter = DeadLetter.objects.get()
    assert (letter.kind, letter.queue) == ("envelope", QUEUE)


@pytest.mark.django_db(transaction=True)
def test_what_a_consumer_stumbles_over_does_not_come_back(
    valkey: Valkey, received: list[Any]
) -> None:
    def stumble(body: Any, message: Any) -> None:
        raise TypeError("odd")

    with valkey.client() as client, connect(valkey) as connection:
        client.lpush(QUEUE, json.dumps(envelope()))
        with connection.Consumer(Queue(QUEUE), callbacks=[stumble]):
            connection.drain_events(timeout=5)
        assert client.hlen("unacked") == 0
        close(connection)
        assert client.llen(QUEUE) == 0
    assert dead_letters.move() == 1


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("redis", transport.Transport),
        ("rediss", transport.Transport),
        ("sentinel", transport.SentinelTransport),
    ],
)
def test_the_transports_are_the_careful_ones(alias: str, expected: object) -> None:
    assert get_transport_cls(alias) is expected


GOOD: dict[str, Any] = {"task": "t", "id": "i"}


@pytest.mark.parametrize(
    ("headers", "payload", "problem"),
    [
        (GOOD, [[], {}, {}], ""),
        (GOOD, [[], {}, None], ""),
        (GOOD | {"timelimit": [None, 3.5]}, [[], {}, {}], ""),
        (GOOD | {"jobs_run": ["00000000-0000-0000-0000-000000000000", 1]}, [[], {}, {}], ""),
        ({}, "anything", ""),
        (["task"], None, "no mapping"),
        ({"task": ["t"], "id": "i"}, [[], {}, {}], "no text"),
        ({"task": "t"}, [[], {}, {}], "no id"),
        ({"task": "t", "id": 7}, [[], {}, {}], "no id"),
        (GOOD | {"timelimit": "ab"}, [[], {}, {}], "limits"),
        (GOOD | {"timelimit": [1]}, [[], {}, {}], "limits"),
        (GOOD | {"timelimit": [-1, None]}, [[], {}, {}], "limits"),
        (GOOD | {"jobs_run": "nobody"}, [[], {}, {}], "names none"),
        (GOOD | {"jobs_run": ["x", 1]}, [[], {}, {}], "names none"),
        (GOOD, [[], {}], "its body"),
        (GOOD, "abc", "its body"),
        (GOOD, [7, {}, {}], "its body"),
        (GOOD, [[], [], {}], "its body"),
        (GOOD, [[], {}, []], "its body"),
    ],
)
def test_the_shape_of_a_task_is_looked_at_before_celery_does(
    headers: Any, payload: Any, problem: str
) -> None:
    said = problem_of(SimpleNamespace(headers=headers, payload=payload))
    assert problem in said if problem else said == ""
