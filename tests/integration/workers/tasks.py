"""Tasks that the guard is tried on; what they see of their run goes to `seen`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject

from scheduling import Found, Outcome, current_run
from scheduling.errors import NotInARun

seen: list[Any] = []
# What the next call does inside its run.
act: list[Callable[[], Any]] = []

PATH = __name__


class Counting(Task[Any, Any]):
    """A base class of somebody else, with a `__call__` of its own."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        seen.append("called")
        return super().__call__(*args, **kwargs)


@shared_task
def remember(*args: Any, **kwargs: Any) -> Any:
    try:
        run = current_run()
    except NotInARun:
        run = None
    seen.append((args, kwargs, run))
    return act.pop()() if act else None


@shared_task(base=Counting)
def counted() -> None:
    seen.append(current_run().id)


@shared_task(bind=True)
def bound(self: Task[Any, Any]) -> None:
    seen.append((self.request.retries, self.request.args, self.request.kwargs))


@shared_task(bind=True, max_retries=2, default_retry_delay=7)
def retrying(self: Task[Any, Any]) -> None:
    seen.append(self.request.retries)
    try:
        raise KeyError("gone")
    except KeyError as error:
        self.retry(exc=error)


@shared_task(autoretry_for=(KeyError,), max_retries=1, default_retry_delay=5)
def autoretrying() -> None:
    raise KeyError("gone")


@shared_task
def exiting(code: int) -> None:
    sys.exit(code)


@shared_task
def ignoring() -> None:
    raise Ignore


@shared_task
def rejecting() -> None:
    raise Reject("not mine", requeue=True)


@shared_task
def unchanged() -> Outcome:
    return Outcome.UNCHANGED


@shared_task
def fingerprinted() -> Found:
    return Found(fingerprint="5e1d")


@shared_task(bind=True)
def recursive(self: Task[Any, Any], depth: int = 2) -> int:
    seen.append(depth)
    return depth and self(depth - 1)
