"""Asking a job's hooks: `should_run`, `ready`, `status`; each call has a time limit.

A hook is called on a thread of its own, which is left behind when it takes too long: no signal
breaks into it. While such a call hangs, the same hook is not called again, so that a hook that
never returns costs each process no more threads than were asking at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from django.db import connections

from scheduling import runs
from scheduling.conf import conf
from scheduling.models import Run
from scheduling.registry import Hook, registry

logger = logging.getLogger(__name__)

Which = Literal["should_run", "ready", "status"]
# Many runs of a job that is not ready come at once: what one of them has heard counts so long.
HEARD = timedelta(seconds=1)


class Said(StrEnum):
    YES = "said yes"
    NO = "said no"
    RAISED = "raised an error"
    TOO_SLOW = "took too long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a hook said; `detail` is for people, in a sentence about the hook."""

    said: Said
    detail: str = ""

    @property
    def is_yes(self) -> bool:
        return self.said is Said.YES


class _Call:
    """One call of a hook, on its thread."""

    hanging: Counter[tuple[str, Which]] = Counter()
    guard = threading.Lock()

    def __init__(self, job: str, which: Which, hook: Hook) -> None:
        self._key = (job, which)
        self._hook = hook
        self._done = threading.Event()
        self._answer = Answer(said=Said.RAISED)
        self._is_given_up = False
        # A hook may ask current_run(), as the body may.
        thread = threading.Thread(
            target=copy_context().run,
            args=(self._run,),
            name=f"{which} of {job}",
            daemon=True,
        )
        thread.start()

    def _run(self) -> None:
        name = f"{self._key[1]}()"
        try:
            value = self._hook()
            said = Said.YES if value else Said.NO
            self._answer = Answer(said=said, detail=f"{name} gave {value!r:.100}")
        except BaseException as error:
            logger.warning("%s of job %s failed", name, self._key[0], exc_info=True)
            told = f"{type(error).__name__}: {error}".rstrip(": ")
            self._answer = Answer(said=Said.RAISED, detail=f"{name} raised {told:.300}")
        finally:
            connections.close_all()
            with self.guard:
                if self._is_given_up:
                    self.hanging[self._key] -= 1
                self._done.set()

    def answer(self, deadline: float) -> Answer:
        """Wait until `deadline`, of the monotonic clock; then give up."""
        self._done.wait(max(0.0, deadline - time.monotonic()))
        with self.guard:
            if self._done.is_set():
                return self._answer
            self._is_given_up = True
            self.hanging[self._key] += 1
        limit = conf.HOOK_LIMIT.total_seconds()
        return Answer(said=Said.TOO_SLOW, detail=f"{self._key[1]}() took longer than {limit:g} s")


def has(job: str, which: Which) -> bool:
    return hook_of(job, which) is not None


def hook_of(job: str, which: Which) -> Hook | None:
    declaration = registry.get(job)
    hook: Hook | None = getattr(declaration, which) if declaration is not None else None
    return hook


def ask(job: str, which: Which) -> Answer | None:
    """Ask a hook of the job of that name, within JOBS_HOOK_LIMIT; None: it has no such hook."""
    return ask_all([job], which)[job]


def ask_all(jobs: Iterable[str], which: Which) -> dict[str, Answer | None]:
    """Ask the same hook of several jobs side by side; one limit for all of them."""
    answers: dict[str, Answer | None] = dict.fromkeys(jobs)
    calls: dict[str, _Call] = {}
    for job in answers:
        hook = hook_of(job, which)
        if hook is None:
            continue
        if _Call.hanging[job, which] > 0:
            told = f"{which}() has not returned from an earlier call"
            answers[job] = Answer(said=Said.TOO_SLOW, detail=told)
            continue
        calls[job] = _Call(job, which, hook)
    deadline = time.monotonic() + conf.HOOK_LIMIT.total_seconds()
    return answers | {job: call.answer(deadline) for job, call in calls.items()}


def is_ready(run: Run, *, now: datetime) -> bool:
    """Whether the job of a queued run, loaded with it, is ready for its first run.

    Asked until the job's `ready` has said yes once. False: the run has been postponed.
    """
    job = run.job
    if job is None or job.ready_since is not None or not has(job.name, "ready"):
        return True
    heard_lately = job.asked_at is not None and now - job.asked_at < HEARD
    if heard_lately and job.unready_detail:
        runs.wait_until_ready(run, detail=job.unready_detail, asked=False, now=now)
        return False
    answer = ask(job.name, "ready")
    if answer is None or answer.is_yes:
        runs.note_ready(job, now=now)
        return True
    runs.wait_until_ready(run, detail=answer.detail, asked=True, now=now)
    return False
