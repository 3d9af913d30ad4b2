"""What code declares: commands, functions and settings, read into values."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from scheduling.declarations.commands import read_commands
from scheduling.declarations.functions import import_jobs
from scheduling.declarations.problem import Problem
from scheduling.declarations.settings import read_settings
from scheduling.errors import InvalidDeclaration
from scheduling.registry import Declaration, registry

__all__ = ["Collected", "Problem", "collect", "load"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """What the code declares now (name -> declaration, sorted), and what could not be read."""

    declarations: dict[str, Declaration]
    problems: list[Problem]


def collect() -> Collected:
    """Read everything that the code of this process declares. Needs no database."""
    problems = import_jobs()
    found = {each.name: each for each in registry if each.declared_in == "function"}
    for declarations, more in (read_commands(), read_settings()):
        problems += more
        for declaration in declarations:
            other = found.setdefault(declaration.name, declaration)
            if other is not declaration:
                problems.append(_clash(other, declaration))
    return Collected(dict(sorted(found.items())), problems)


def _clash(one: Declaration, other: Declaration) -> Problem:
    return Problem(
        text=f"Job {one.name!r} is declared in {one.declared_in} ({one.task or one.command}) and "
        f"again in {other.declared_in} ({other.task or other.command}); rename one",
        declared_in=other.declared_in,
        name=other.name,
    )


_loaded = False
_loading = threading.Lock()


def load() -> None:
    """Fill the registry, once per process: where workers find the hooks of jobs."""
    global _loaded
    with _loading:
        if _loaded:
            return
        collected = collect()
        for problem in collected.problems:
            logger.error("%s", problem)
        for declaration in collected.declarations.values():
            try:
                registry.add(declaration)
            except InvalidDeclaration as error:
                logger.error("%s", error)
        _loaded = True
