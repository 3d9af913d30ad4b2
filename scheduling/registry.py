"""What code declares: jobs as values, by name. Pure: no Django, no database.

`declarations` fills the registry from commands, functions and settings; `sync` writes it to the
database; workers look up the hooks, which stay in the code.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, ParamSpec, TypeVar, cast

from celery import Task, shared_task

from scheduling import declared_keywords
from scheduling import declared_values as read
from scheduling.errors import InvalidDeclaration, UnknownJob
from scheduling.feeds import Feed, Polite
from scheduling.policies import CatchUp, Overlap
from scheduling.schedules import Schedule
from scheduling.zones import ClockChange

Kind = Literal["task", "command", "argv"]
DeclaredIn = Literal["command", "function", "settings", "periodic_task", "admin"]
FollowOn = Literal["success", "failure", "any"]
Hook = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpRule:
    """`follower` (a job's name) gets a run when a run of the declaring job ends so."""

    follower: str
    on: FollowOn = "success"
    # Only after all of the follower's rules with this mark, under one root run
    join: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One job as written in code. `None` for a span or limit means the default.

    `calendar` and `circuit` are names; `first_run` is "next", "now" or an ISO time; `runs` is how
    many there are to be in all, None: no limit.
    """

    name: str
    kind: Kind
    declared_in: DeclaredIn
    schedule: Schedule
    description: str = ""
    task: str = ""
    command: str = ""
    internal: bool = True
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    scheduled_at_argument: str = ""
    calendar: str | None = None
    clock_change: ClockChange = ClockChange.CLASSIC
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    runs: int | None = None
    first_run: str = "next"
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta | None = None
    overlap: Overlap = Overlap.SKIP
    queue_limit: int | None = None
    start_within: timedelta | None = None
    soft_limit: timedelta | None = None
    hard_limit: timedelta | None = None
    retries: int = 0
    retry_delay: timedelta = timedelta(seconds=60)
    retry_delay_max: timedelta = timedelta(hours=1)
    # Names of exceptions and exit codes; (): every failure
    retry_on: tuple[str | int, ...] = ()
    rerun_if_lost: bool = False
    memory_limit: int | None = None
    pause_after: int | None = None
    batch: int = 1
    circuit: str | None = None
    locks: tuple[str, ...] = ()
    locks_until_next_fire: bool = False
    notify_on_success: bool = False
    notify_still_failing: bool = False
    recipients: tuple[str, ...] = ()
    # Whoever knows it can report there: not for logs.
    ping_url: str = field(default="", repr=False)
    feed: Feed | None = None
    polite: Polite | None = None
    # name of the job -> declared by that job (`trigger_next_jobs`)
    follow_ups: tuple[FollowUpRule, ...] = ()
    # written at the follower (`after=`): rules of other jobs that lead here, by their name
    after: tuple[FollowUpRule, ...] = ()
    # Another function each time its module is executed, which makes it no other declaration.
    should_run: Hook | None = field(default=None, compare=False)
    ready: Hook | None = field(default=None, compare=False)
    status: Hook | None = field(default=None, compare=False)
    # Its targets are added one by one, each with its key; it has no plain one.
    keyed: bool = False


class Registry:
    """Declarations by name. Adding a name twice is an error unless it is the same object."""

    def __init__(self) -> None:
        self._by_name: dict[str, Declaration] = {}

    def add(self, declaration: Declaration) -> None:
        known = self._by_name.get(declaration.name)
        if known is not None and known != declaration:
            raise InvalidDeclaration(
                f"Job {declaration.name!r} is declared twice, in {known.declared_in} "
                f"({known.task or known.command}) and in {declaration.declared_in} "
                f"({declaration.task or declaration.command}); rename one"
            )
        self._by_name[declaration.name] = declaration

    def get(self, name: str) -> Declaration | None:
        return self._by_name.get(name)

    def __getitem__(self, name: str) -> Declaration:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownJob(f"No job named {name!r} is declared in code") from None

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def clear(self) -> None:
        self._by_name.clear()


registry = Registry()

LONGEST_DESCRIPTION = 200
# What `shared_task` takes, or Celery reads off a task, that is no attribute of its class.
CELERY_OPTIONS = frozenset(
    {
        *("base", "bind", "shared", "lazy", "filter"),
        *("pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"),
        *("autoretry_for", "dont_autoretry_for", "retry_kwargs"),
        *("retry_backoff", "retry_backoff_max", "retry_jitter"),
        *("exchange", "routing_key", "compression", "delivery_mode", "immediate", "mandatory"),
    }
)

P = ParamSpec("P")
R = TypeVar("R")


def job(
    schedule: Schedule | str | timedelta | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    scheduled_at: str = "",
    queue: str | None = None,
    options: Mapping[str, Any] | None = None,
    calendar: str | None = None,
    clock_change: ClockChange | str = ClockChange.CLASSIC,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    runs: int | None = None,
    first_run: datetime | str = "next",
    catch_up: CatchUp | str = CatchUp.LATEST,
    catch_up_window: timedelta | None = None,
    overlap: Overlap | str = Overlap.SKIP,
    queue_limit: int | None = None,
    start_within: timedelta | None = None,
    should_run: Hook | None = None,
    ready: Hook | None = None,
    status: Hook | None = None,
    soft_limit: timedelta | None = None,
    hard_limit: timedelta | None = None,
    retries: int = 0,
    retry_delay: timedelta = timedelta(seconds=60),
    retry_delay_max: timedelta = timedelta(hours=1),
    retry_on: Any = (),
    idempotent: bool = False,
    memory_limit: int | str | None = None,
    pause_after: int | None = None,
    batch: int = 1,
    circuit: str | None = None,
    locks: str | Sequence[str] = (),
    locks_until_next_fire: bool = False,
    keyed: bool = False,
    feed: Feed | None = None,
    polite: Polite | None = None,
    after: str | Sequence[str] = (),
    after_failure: str | Sequence[str] = (),
    after_any: str | Sequence[str] = (),
    after_all: str | Sequence[str] = (),
    notify_on_success: bool = False,
    notify_still_failing: bool = False,
    recipients: str | Sequence[str] = (),
    ping_url: str = "",
    **task_options: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a function as a job; it stays an ordinary Celery task (`f.delay()` still works).

    `job(...)(task)` declares a task that there is already, once or under several names.

    `name` defaults to the function's. `idempotent` says that a run whose worker died may be run
    again (at least once); otherwise it fails as lost (at most once). `keyed` says that its targets
    are added one by one (`scheduling.runs.add_target`), each for a key. `after*` name the jobs
    whose runs lead to a run of this one. `batch`: so many runs may share a message, which a worker
    executes one after another; for short ones. `scheduled_at` names the argument that receives the
    scheduled time as an ISO 8601 string. Further keywords go to Celery's `shared_task`. Raises
    InvalidDeclaration, which names what is wrong.
    """
    # The keywords by name: at the first line, nothing else is there.
    given = dict(locals())
    if callable(schedule):
        raise InvalidDeclaration(
            f"@job has the schedule {schedule!r}; write @job() with parentheses, or a Schedule"
        )

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        task = function if isinstance(function, Task) else None
        called = read.require_function(function) if task is None else task.name.rpartition(".")[2]
        own = read.as_name(name or called)
        _refuse_unknown(task_options, own)
        if task is not None and task_options:
            raise InvalidDeclaration(
                f"Job {own!r}: {next(iter(task_options))!r} is for the task {task.name!r} to say; "
                "move it there"
            )
        values = _read(given, function if task is None else task.run, own)
        # Not before: a function that is refused is no task either.
        task = task or shared_task(**task_options)(function)
        registry.add(
            Declaration(name=own, kind="task", declared_in="function", task=task.name, **values)
        )
        return cast(Callable[P, R], task)

    return declare


def _read(given: Mapping[str, Any], function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Give the fields of a declaration that the keywords of `@job` say, or the function does."""
    values = declared_keywords.read(declared_keywords.OF_FUNCTIONS, given, name)
    argument = values["scheduled_at_argument"]
    told = {**values["kwargs"], **({argument: ""} if argument else {})}
    read.require_arguments(function, values["args"], told, name)
    if given["description"] is None:
        values["description"] = (function.__doc__ or "").strip().partition("\n")[0]
    values["description"] = values["description"][:LONGEST_DESCRIPTION]
    values["after"] = followed(name, given)
    return values


def followed(name: str, given: Mapping[str, Any]) -> tuple[FollowUpRule, ...]:
    """Read what `after`, `after_failure`, `after_any` and `after_all` say, at the follower."""
    return tuple(
        FollowUpRule(follower=each, on=cast(FollowOn, on), join=keyword == "after_all")
        for keyword, on in declared_keywords.FOLLOWING.items()
        for each in read.as_names(given.get(keyword), name, keyword)
    )


def _refuse_unknown(options: Mapping[str, Any], name: str) -> None:
    """Celery would keep a misspelt keyword as an attribute of the task, and say nothing."""
    known = CELERY_OPTIONS.union(dir(options.get("base") or Task))
    ours = inspect.signature(job).parameters
    for option in options:
        if option in known:
            continue
        near = difflib.get_close_matches(option, [*ours, *CELERY_OPTIONS], n=1)
        advice = f"did you mean {near[0]!r}?" if near else "nor has a task of Celery; remove it"
        raise InvalidDeclaration(f"Job {name!r}: @job has no {option!r}; {advice}")
