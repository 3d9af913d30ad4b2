"""Messages that nobody can work on: kept, harmless and bounded, for a person to look at.

Whoever meets one posts a letter to a list in Redis, which costs an event loop next to nothing and
outlives both the worker and an outage of the database; the workers' main processes move the list
into the database. Nothing of a message that names a task is kept but its names: the rest would
show arguments.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import signals
from django import db

from scheduling import clock, redis
from scheduling.conf import conf
from scheduling.models import DeadLetter, Spoilt
from workers.loop import Loop
from workers.output import harmless

logger = logging.getLogger(__name__)

LETTERS = "jobs:dead_letters"
MOVER = "jobs:dead_letters:mover"
# Longer than moving a batch takes; should it be passed, a letter may be kept twice.
MOVER_LEASE = 60
EVERY = timedelta(seconds=1)
BATCH = 200
CONTENT_LIMIT = 8 * 1024  # characters
# Looked through for names, and shown by nobody.
LOOKED_AT = 64 * 1024
NAMES = re.compile(r'"(task|id)"\s*:\s*"([^"\\]{1,300})"')
LOOKS_LIKE_A_TASK = re.compile(r'"(task|body|args|kwargs|argsrepr|kwargsrepr)"\s*:')

CONSUMER = "celery.worker.consumer:Consumer"
TRANSPORTS = {
    "redis": "workers.transport:Transport",
    "rediss": "workers.transport:Transport",
    "sentinel": "workers.transport:SentinelTransport",
}

# What Redis did not take; the oldest are dropped.
_kept: deque[str] = deque(maxlen=1000)
_moving: list[Loop] = []
# For whom a process puts messages aside, where the place that meets one does not know.
_worker = ""


def connect() -> None:
    """Make workers put aside what stock workers drop silently or die of."""
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES.update(TRANSPORTS)
    signals.celeryd_init.connect(choose_consumer)
    signals.worker_ready.connect(begin)
    signals.worker_shutdown.connect(end)


def choose_consumer(conf: Any, **_: Any) -> None:
    """A consumer of the team's own choice stays."""
    if conf.worker_consumer == CONSUMER:
        conf.worker_consumer = "workers.consumer:Consumer"


def begin(sender: Any = None, **_: Any) -> None:
    global _worker
    _worker = name_of(sender)
    loop = Loop("Keeping dead letters", move, every=lambda: EVERY)
    _moving.append(loop)
    loop.start()


def end(**_: Any) -> None:
    while _moving:
        _moving.pop().stop()


def name_of(consumer: Any) -> str:
    return str(getattr(consumer, "hostname", "") or "")


# --- posting --------------------------------------------------------------------------------------


def post_message(kind: Spoilt, message: Any, *, worker: str, detail: str) -> None:
    """Post a message of kombu's, as far as it can be read."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    info = message.delivery_info if isinstance(message.delivery_info, dict) else {}
    content, task, message_id = read(message.body)
    names_task = bool(headers.get("task"))
    post(
        kind,
        worker=worker,
        queue=info.get("routing_key"),
        task=headers["task"] if names_task else task,
        message_id=headers.get("id") if names_task else message_id,
        detail=detail,
        content="" if names_task else content,
    )


def post_raw(kind: Spoilt, raw: object, *, queue: str, detail: str) -> None:
    """Post what is no message at all: the text that was on the queue, or what JSON made of it."""
    content, task, message_id = read(raw)
    post(
        kind,
        queue=queue,
        task=task,
        message_id=message_id,
        detail=detail,
        content=content,
    )


def read(raw: object) -> tuple[str, str, str]:
    """Give the beginning, empty if it may show arguments, and the names of task and message."""
    if isinstance(raw, memoryview):
        raw = raw.tobytes()
    if isinstance(raw, bytes):
        text = raw[:LOOKED_AT].decode("utf-8", "replace")
    elif isinstance(raw, str):
        text = raw[:LOOKED_AT]
    else:
        text = _written(raw)[:LOOKED_AT]
    if LOOKS_LIKE_A_TASK.search(text):
        names = dict(NAMES.findall(text))
        return "", names.get("task", ""), names.get("id", "")
    return text[:CONTENT_LIMIT], "", ""


def _written(value: object) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        return type(value).__name__


def post(
    kind: Spoilt,
    *,
    worker: str = "",
    queue: object = "",
    task: object = "",
    message_id: object = "",
    detail: str = "",
    content: str = "",
) -> None:
    """Put a letter on the list; raises nothing."""
    logger.warning(
        "Put aside a message: %s",
        kind.label,
        extra={"event": "message.put_aside", "kind": kind.value, "worker": worker},
    )
    letter = json.dumps(
        {
            "kind": kind.value,
            "received_at": _now().isoformat(),
            "worker": worker or _worker,
            "queue": str(queue or "")[:200],
            "task": str(task or "")[:300],
            "message_id": str(message_id or "")[:100],
            "detail": detail[:500],
            "content": content[:CONTENT_LIMIT],
        }
    )
    try:
        client = redis.client()
        if client.rpush(LETTERS, letter) > conf.DEAD_LETTERS:
            client.lpop(LETTERS)
    except redis.RedisError:
        _kept.append(letter)


def _now() -> datetime:
    try:
        return clock.now()
    except db.Error:
        return datetime.now(UTC)


# --- moving ---------------------------------------------------------------------------------------


def move() -> int:
    """Move what is on the list into the database; give how many. One worker at a time does.

    A letter leaves the list after its row is committed: who dies in between leaves it twice.
    """
    moved = _move_kept()
    client = redis.client()
    if not client.llen(LETTERS) or not client.set(MOVER, "1", nx=True, ex=MOVER_LEASE):
        return moved
    try:
        while letters := client.lrange(LETTERS, 0, BATCH - 1):
            store(letters)
            with client.pipeline(transaction=False) as pipe:
                for letter in letters:
                    pipe.lrem(LETTERS, 1, str(letter))
                pipe.execute()
            moved += len(letters)
    finally:
        client.delete(MOVER)
    return moved


def _move_kept() -> int:
    letters = list(_kept)
    if letters:
        store(letters)
        for _ in letters:
            _kept.popleft()
    return len(letters)


def store(letters: Iterable[str | bytes]) -> None:
    """Write letters down, and drop the oldest beyond JOBS_DEAD_LETTERS."""
    DeadLetter.objects.bulk_create(row for row in map(_row, letters) if row is not None)
    oldest = DeadLetter.objects.order_by("-pk").values_list("pk", flat=True)[conf.DEAD_LETTERS :]
    newest_to_drop = oldest.first()
    if newest_to_drop is not None:
        DeadLetter.objects.filter(pk__lte=newest_to_drop).delete()


def _row(letter: str | bytes) -> DeadLetter | None:
    """Who can write to Redis may have written the letter: nothing in it is trusted."""
    try:
        said = json.loads(letter)
        received_at = datetime.fromisoformat(said["received_at"])
        kind = Spoilt(said["kind"])
    except (ValueError, TypeError, KeyError, RecursionError):
        logger.warning("Dropped what is no letter from %s", LETTERS)
        return None
    if received_at.tzinfo is None:
        received_at = received_at.replace(tzinfo=UTC)
    limits = {"worker": 200, "queue": 200, "task": 300, "message_id": 100, "detail": 500}
    texts = {name: visible(said.get(name))[:limit] for name, limit in limits.items()}
    content = visible(said.get("content"), keep="\n\t")[:CONTENT_LIMIT]
    return DeadLetter(kind=kind, received_at=received_at, content=content, **texts)


def visible(value: object, *, keep: str = "") -> str:
    """Give text in which nothing rings, moves the cursor or writes backwards."""
    return "".join(
        each if each.isprintable() or each in keep else "\N{REPLACEMENT CHARACTER}"
        for each in harmless(str(value or "")[:CONTENT_LIMIT])
    )
