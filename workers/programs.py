"""Which programs jobs may run, and what these see.

A program is allowed by the settings alone: whoever may edit jobs in the admin must not be able to
run whatever lies on the machine.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from scheduling.conf import conf
from scheduling.errors import InvalidDeclaration

# What a program may see of the worker's environment; JOBS_PROGRAM_ENVIRONMENT adds to it.
ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
)
# The installation's own secrets; no pattern lets them through.
SECRETS = frozenset(
    {
        *("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "EMAIL_URL"),
        *("SECRET_KEY", "DJANGO_SECRET_KEY", "JOBS_ADMIN_PASSWORD"),
        *("JOBS_METRICS_TOKEN", "JOBS_CHANNELS"),
    }
)


def allowed_file(program: str) -> Path:
    """Give the file that a program's name or absolute path stands for, links followed.

    Raises InvalidDeclaration if there is none, if it cannot be executed, or if JOBS_PROGRAMS does
    not name it.
    """
    file = file_of(program)
    # After links and `..`, or a link in an allowed folder would allow whatever it leads to.
    if not any(fnmatch.fnmatchcase(str(file), pattern) for pattern in patterns()):
        raise InvalidDeclaration(
            f"Program {program!r} is not allowed: add {str(file)!r} to JOBS_PROGRAMS in the "
            "settings, and restart the workers",
            program=program,
            file=file,
        )
    return file


def file_of(program: str) -> Path:
    """Find a program as a shell would, except that there is no current folder."""
    found: str | None = program
    if "/" not in program:
        found = shutil.which(program)
    elif not program.startswith("/"):
        raise InvalidDeclaration(f"Program {program!r}: write its absolute path")
    file = Path(found).resolve() if found and "\0" not in found else None
    if file is None or not file.is_file():
        raise InvalidDeclaration(
            f"Program {program!r} is not there; install it on this machine, or write the "
            "absolute path of another"
        )
    if not os.access(file, os.X_OK):
        raise InvalidDeclaration(f"Program {program!r} cannot be executed; chmod +x {file}")
    return file


def patterns() -> list[str]:
    """The patterns of JOBS_PROGRAMS, links in them followed as well (`/bin` often is one)."""
    return [str(Path(each).resolve()) for each in conf.PROGRAMS if each.startswith("/")]


def visible(worker: Mapping[str, str]) -> dict[str, str]:
    """Give the part of the worker's environment that a program may see."""
    allowed = (*ENVIRONMENT, *conf.PROGRAM_ENVIRONMENT)
    return {
        name: value
        for name, value in worker.items()
        if name not in SECRETS and any(fnmatch.fnmatchcase(name, each) for each in allowed)
    }
