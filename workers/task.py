"""The class in front of every task's own class in a worker.

Celery's tracer calls `task.run` unless the task's class has a `__call__`; ours does, and decides
whether the message stands for a run. Everything else of the task stays its own.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery import Celery
from celery.app.task import Task
from celery.exceptions import Retry

from workers import attempt, batch
from workers.ticket import tickets_of


class JobTask(Task[Any, Any]):
    """Guards one task: a message that stands for a run is executed as that run, or not at all."""

    # Whether the class behind this one has a `__call__` of its own.
    jobs_custom_call = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        tickets = tickets_of(request)
        # A task that calls itself as a function is inside its run already.
        if not tickets or getattr(request, "jobs_begun", False):
            return super().__call__(*args, **kwargs)
        request.update(jobs_begun=True)
        body = super().__call__ if self.jobs_custom_call else self.run
        if len(tickets) > 1:
            return batch.execute(self, tickets, body)
        return attempt.execute(self, tickets[0], body)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Inside a run, publish nothing: the run is queued again in the database.

        `autoretry_for` comes this way, too. The next attempt has the run's own arguments.
        """
        if not getattr(self.request, "jobs_begun", False):
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and self.request.retries >= limit:
            self._give_up(exc, limit)
        when: Any = eta if eta is not None else countdown
        if when is None:
            when = self.default_retry_delay
        again = Retry(exc=exc, when=when)
        if throw:
            raise again from exc
        return again

    def _give_up(self, exc: Exception | None, limit: int) -> NoReturn:
        if exc is not None:
            raise exc
        raise self.MaxRetriesExceededError(f"Task {self.name!r} failed {limit} retries")


def has_custom_call(own: type) -> bool:
    first = next(base for base in own.__mro__ if "__call__" in vars(base))
    return first is not Task


def install(app: Celery) -> None:
    """Put the guard in front of every task that is registered by now. May be called again."""
    for task in app.tasks.values():
        own: type = type(task)
        if not issubclass(own, JobTask):
            task.__class__ = type(
                own.__name__,
                (JobTask, own),
                {
                    "__module__": own.__module__,
                    "__doc__": own.__doc__,
                    "jobs_custom_call": has_custom_call(own),
                },
            )
