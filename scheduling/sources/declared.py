"""`@source`: an enumerator of resources, declared in code, with the jobs that list it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from celery import shared_task

from scheduling import declared_values as read
from scheduling.errors import InvalidDeclaration
from scheduling.registry import job
from scheduling.schedules import Schedule

if TYPE_CHECKING:
    from scheduling.sources.progress import Listing
    from scheduling.sources.values import Named, Page, Unread

Vanish = Literal["retire", "keep"]
LONGEST_SOURCE = read.LONGEST_NAME - len(".incremental")
LONGEST_DESCRIPTION = 300
MOST_MISSED = 32_767

# A million resources take longer than an ordinary job may. Who is ended goes on where it stopped.
HARD_LIMIT = timedelta(hours=4)

# Keywords of @job that a source's jobs have no use for -> what to do instead
NOT_OF_JOBS = {
    "schedule": "say when by full= and incremental=",
    "args": "its jobs are given none; drop it",
    "kwargs": "its jobs have their own; give those of the targets in each Named",
}

Enumerate = Callable[["Listing"], "Iterable[Named | Page | Unread]"]
F = TypeVar("F", bound=Enumerate)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDeclaration:
    """One source as written in code; `jobs` are the names of those that get a target for each
    resource it names.
    """

    name: str
    task: str
    jobs: tuple[str, ...]
    description: str = ""
    is_express: bool = False
    is_trial: bool = False
    trial_limit: int = 10
    vanish: Vanish = "retire"
    vanish_after: int = 1
    page_size: int = 1000
    # Another function each time its module is executed, which makes it no other declaration.
    enumerate: Enumerate = field(compare=False)

    @property
    def full_job(self) -> str:
        return f"{self.name}.full"

    @property
    def incremental_job(self) -> str:
        return f"{self.name}.incremental"


class Sources:
    """Declared sources by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, SourceDeclaration] = {}

    def add(self, declaration: SourceDeclaration) -> None:
        known = self._by_name.get(declaration.name)
        if known is not None and known != declaration:
            raise InvalidDeclaration(
                f"Source {declaration.name!r} is declared twice, by {known.task} and by "
                f"{declaration.task}; rename one"
            )
        self._by_name[declaration.name] = declaration

    def get(self, name: str) -> SourceDeclaration | None:
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[SourceDeclaration]:
        return iter(sorted(self._by_name.values(), key=lambda each: each.name))


sources = Sources()


def source(
    *,
    jobs: str | Sequence[str],
    name: str | None = None,
    full: Schedule | str | timedelta | None = None,
    incremental: Schedule | str | timedelta | None = None,
    description: str | None = None,
    express: bool = False,
    trial: bool = False,
    trial_limit: int = 10,
    vanish: Vanish = "retire",
    vanish_after: int = 1,
    page_size: int = 1000,
    hard_limit: timedelta = HARD_LIMIT,
    retries: int = 3,
    **options: Any,
) -> Callable[[F], F]:
    """Declare a function that names resources; each of `jobs` has a target for each of them.

    The function takes one argument, the listing in progress (`scheduling.sources.Listing`), and
    gives `Named`s, or `Page`s of them. It is run by the ordinary jobs `NAME.full` and, if it has a
    schedule, `NAME.incremental`, never both at once. Without a schedule `NAME.full` is run by hand.

    `express`: what it names for the first time goes first. `trial`: it begins on trial, listing at
    most `trial_limit` resources, whose targets are paused, until `jobs sources live NAME`. What
    `vanish_after` full listings in a row have not named is retired, unless `vanish` is "keep".
    `page_size` is for the ready-made enumerators. Further keywords are those of `@job`, for both
    jobs. Raises InvalidDeclaration, which names what is wrong.
    """

    def declare(function: F) -> F:
        called = _name_of(function)
        own = read.as_name(name or called)
        told = description if description is not None else (function.__doc__ or "").strip()
        declaration = SourceDeclaration(
            name=own,
            task=f"{function.__module__}.{called}",
            jobs=read.as_names(jobs, own, "jobs"),
            description=told.partition("\n")[0][:LONGEST_DESCRIPTION],
            is_express=read.as_flag(express, own, "express"),
            is_trial=read.as_flag(trial, own, "trial"),
            trial_limit=trial_limit,
            vanish=vanish,
            vanish_after=vanish_after,
            page_size=page_size,
            enumerate=function,
        )
        _require_sound(declaration, options)
        # First: what is refused here is no task either.
        sources.add(declaration)
        shared = {"hard_limit": hard_limit, "retries": retries, **options}
        _declare_jobs(declaration, full=full, incremental=incremental, shared=shared)
        return function

    return declare


def _require_sound(declaration: SourceDeclaration, options: Mapping[str, Any]) -> None:
    """Raises InvalidDeclaration."""
    own = declaration.name
    if len(own) > LONGEST_SOURCE:
        raise InvalidDeclaration(
            f"Source {own!r} has a name of {len(own)} characters; at most {LONGEST_SOURCE}, "
            "so that its jobs can be named after it"
        )
    if not declaration.jobs:
        raise InvalidDeclaration(f"Source {own!r} names no jobs; say which get its targets")
    if declaration.vanish not in ("retire", "keep"):
        raise InvalidDeclaration(
            f"Source {own!r}: vanish is {declaration.vanish!r}; choose 'retire' or 'keep'"
        )
    numbers = (
        ("vanish_after", declaration.vanish_after, MOST_MISSED),
        ("trial_limit", declaration.trial_limit, 10_000),
        ("page_size", declaration.page_size, 100_000),
    )
    for what, number, most in numbers:
        read.whole(1, most)(number, own, what)
    for option, instead in NOT_OF_JOBS.items():
        if option in options:
            raise InvalidDeclaration(f"Source {own!r} gives {option}=; {instead}")


def _declare_jobs(
    declaration: SourceDeclaration,
    *,
    full: Schedule | str | timedelta | None,
    incremental: Schedule | str | timedelta | None,
    shared: Mapping[str, Any],
) -> None:
    own = declaration.name
    body = shared_task(name=declaration.task)(_body_of(own, declaration.enumerate))
    keywords = {
        "idempotent": True,
        **shared,
        "locks": (f"source {own}", *read.as_names(shared.get("locks", ()), own, "locks")),
    }
    job(
        full,
        name=declaration.full_job,
        kwargs={"full": True},
        description=f"List all of what {own} names",
        **keywords,
    )(body)
    if incremental is not None:
        job(
            incremental,
            name=declaration.incremental_job,
            kwargs={"full": False},
            description=f"List what has changed of what {own} names",
            **keywords,
        )(body)


def _name_of(function: object) -> str:
    """Give the name of what `@source` decorates, if it is a function of a module."""
    name = getattr(function, "__name__", None)
    is_plain = inspect.isfunction(function) and not inspect.iscoroutinefunction(function)
    if not is_plain or inspect.isasyncgenfunction(function) or name == "<lambda>":
        raise InvalidDeclaration(
            f"@source decorates {function!r}; put it on a function of a module that takes one "
            "argument, the listing"
        )
    return str(name)


def _body_of(name: str, function: Enumerate) -> Callable[[bool], Any]:
    def list_source(full: bool) -> Any:
        # Here, as it needs Django's models, and declarations do not.
        from scheduling.sources.progress import run

        declaration = sources.get(name)
        assert declaration is not None  # it has declared this very task
        return run(declaration, is_full=full)

    # Celery tells tasks of one name apart by where they come from.
    list_source.__module__ = function.__module__
    list_source.__qualname__ = getattr(function, "__qualname__", name)
    return list_source
