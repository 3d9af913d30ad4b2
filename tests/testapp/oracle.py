"""What jobs did, told by the jobs themselves: one JSON line for each start and each end.

Outside of the product on purpose: the tests compare it with what the database says.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

ENVIRONMENT = "JOBS_TEST_ORACLE"


class Facts(TypedDict):
    run: str
    job: str
    scheduled_at: str
    attempt: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    event: str  # "start", "end" or, from a job that says so now and then, "alive"
    run: str
    job: str
    scheduled_at: str
    attempt: int
    token: int
    pid: int
    at: float


def write(event: str, *, run: str, job: str, scheduled_at: str, attempt: int, token: int) -> None:
    """Append one line in a single write, which the kernel never mixes with another's."""
    path = os.environ.get(ENVIRONMENT)
    if not path:
        return
    line = Line(
        event=event,
        run=run,
        job=job,
        scheduled_at=scheduled_at,
        attempt=attempt,
        token=token,
        pid=os.getpid(),
        at=time.time(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{json.dumps(asdict(line))}\n".encode())
    finally:
        os.close(descriptor)


@contextmanager
def telling(*, run: str, job: str, scheduled_at: str, attempt: int, token: int) -> Iterator[None]:
    """Tell of the start, and of the end unless the body raises."""
    told = {
        "run": run,
        "job": job,
        "scheduled_at": scheduled_at,
    }
    write("start", **told, attempt=attempt, token=token)
    yield
    write("end", **told, attempt=attempt, token=token)


@contextmanager
def telling_of_environment(job: str = "") -> Iterator[None]:
    """As `telling`, in a process that knows its run, and its job's name, by its environment."""
    with telling(**facts(job)):
        yield


def facts(job: str = "") -> Facts:
    return {
        "run": os.environ["RUN_ID"],
        "job": job or os.environ["JOB"],
        "scheduled_at": os.environ["SCHEDULED_AT"],
        "attempt": int(os.environ["ATTEMPT"]),
        "token": int(os.environ["FENCING_TOKEN"]),
    }


def read(path: Path) -> list[Line]:
    """Return all lines, in the order of writing.

    Without a last line that is not whole: a reader may see the first part of a write that
    crosses a page of the file.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [Line(**json.loads(line)) for line in whole.splitlines()]
