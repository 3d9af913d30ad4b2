"""Celery's consumer, with one thing changed: no message that comes through it ends the worker.

Stock Celery trusts the shape of messages: a missing id, a body that is no list of three, a limit
that is no number raise in the event loop, whatever the broker is. And of a body that cannot be
decoded it tells nobody but the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import consumer
from kombu.exceptions import ContentDisallowed

from scheduling.message_headers import RUN_HEADER
from scheduling.models import Spoilt
from workers import dead_letters, transport
from workers.ticket import tickets_of

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    connection_errors: tuple[type[Exception], ...]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        receive = super().create_task_handler(*args, **kwargs)
        # Losing the broker is no fault of a message.
        lost = transport.lost(self.connection_errors)

        def on_task_received(message: Any) -> Any:
            try:
                problem = problem_of(message)
                if problem:
                    return self.on_invalid_task(None, message, InvalidTaskError(problem))
                return receive(message)
            except lost:
                raise
            except Exception as error:
                logger.exception("A message could not be worked on; it is put aside")
                if not message.acknowledged:
                    message.reject_log_error(logger, lost)
                self.put_aside(Spoilt.BODY, message, error)

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Acknowledge it, as stock Celery does, which also logs the body."""
        kind = Spoilt.CONTENT if isinstance(exc, ContentDisallowed) else Spoilt.BODY
        self.put_aside(kind, message, exc)
        message.ack()

    def put_aside(self, kind: Spoilt, message: Any, error: Exception) -> None:
        detail = f"{type(error).__name__}: {str(error)[:300]}"
        dead_letters.post_message(kind, message, worker=self.hostname, detail=detail)


def problem_of(message: Any) -> str:
    """Say what Celery would stumble over in a message that names a task; "" if nothing.

    Other messages are of an older protocol, or none of Celery's, which it finds out by itself; as
    it does for what cannot be decoded.
    """
    headers = message.headers
    if not isinstance(headers, dict):
        return "its headers are no mapping"
    if "task" not in headers:
        return ""
    if not isinstance(headers["task"], str):
        return "the name of its task is no text"
    if not isinstance(headers.get("id"), str) or not headers["id"]:
        return "it has no id"
    if RUN_HEADER in headers and not tickets_of(headers):
        return "it stands for a run, but names none"
    if not _are_limits(headers.get("timelimit")):
        return "its time limits are no two numbers"
    try:
        body = message.payload
    except Exception:
        return ""
    if isinstance(body, dict) and "args" in body:
        return ""
    return "" if _is_call(body) else "its body is not [arguments, keywords, options]"


def _are_limits(value: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(each is None or (isinstance(each, int | float) and each >= 0) for each in value)
    )


def _is_call(body: Any) -> bool:
    return (
        isinstance(body, list | tuple)
        and len(body) == 3
        and isinstance(body[0], list | tuple)
        and isinstance(body[1], dict)
        and isinstance(body[2], dict | None)
    )
