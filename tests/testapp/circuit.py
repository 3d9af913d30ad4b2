"""A member of a circuit whose hooks look for files; only the tests that import it know it."""

from __future__ import annotations

import os
from pathlib import Path

from scheduling import job
from tests.testapp.jobs import telling


def there_is(name: str) -> bool:
    return (Path(os.environ["JOBS_VAR"]) / name).exists()


@job(
    name="reader",
    circuit="edge",
    ready=lambda: there_is("ready"),
    status=lambda: not there_is("ill"),
)
def read() -> None:
    """Fail as long as there is the file `broken`."""
    with telling():
        if there_is("broken"):
            raise RuntimeError("broken")
