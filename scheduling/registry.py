"""What code declares: jobs as values, by name. Pure: no Django, no database.

`declarations` fills the registry from commands, functions and settings; `sync` writes it to the
database; workers look up the hooks, which stay in the code.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, cast

from celery import Task, shared_task

from scheduling import declared_values as read
from scheduling.errors import InvalidDeclaration, UnknownJob
from scheduling.policies import CatchUp, Overlap
from scheduling.schedules import Schedule

Kind = Literal["task", "command", "argv"]
DeclaredIn = Literal["command", "function", "settings", "periodic_task", "admin"]
FollowOn = Literal["success", "failure", "any"]
Hook = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpRule:
    """`follower` (a job's name) gets a run when a run of the declaring job ends so."""

    follower: str
    on: FollowOn = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One job as written in code. `None` for a span or limit means the default."""

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
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta | None = None
    overlap: Overlap = Overlap.SKIP
    start_within: timedelta | None = None
    soft_limit: timedelta | None = None
    hard_limit: timedelta | None = None
    retries: int = 0
    retry_delay: timedelta = timedelta(seconds=60)
    retry_delay_max: timedelta = timedelta(hours=1)
    rerun_if_lost: bool = False
    locks: tuple[str, ...] = ()
    notify_on_success: bool = False
    notify_still_failing: bool = False
    recipients: tuple[str, ...] = ()
    # name of the job -> declared by that job (`trigger_next_jobs`)
    follow_ups: tuple[FollowUpRule, ...] = ()
    # written at the follower (`after=`): rules of other jobs that lead here, by their name
    after: tuple[FollowUpRule, ...] = ()
    # Another function each time its module is executed, which makes it no other declaration.
    should_run: Hook | None = field(default=None, compare=False)
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
    queue: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    scheduled_at: str = "",
    catch_up: CatchUp | str = CatchUp.LATEST,
    catch_up_window: timedelta | None = None,
    overlap: Overlap | str = Overlap.SKIP,
    start_within: timedelta | None = None,
    soft_limit: timedelta | None = None,
    hard_limit: timedelta | None = None,
    retries: int = 0,
    retry_delay: timedelta = timedelta(seconds=60),
    retry_delay_max: timedelta = timedelta(hours=1),
    idempotent: bool = False,
    locks: str | Sequence[str] = (),
    keyed: bool = False,
    after: str | Sequence[str] = (),
    after_failure: str | Sequence[str] = (),
    after_any: str | Sequence[str] = (),
    should_run: Hook | None = None,
    notify_on_success: bool = False,
    notify_still_failing: bool = False,
    recipients: str | Sequence[str] = (),
    **task_options: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a function as a job; it stays an ordinary Celery task (`f.delay()` still works).

    `name` defaults to the function's. `idempotent` says that a run whose worker died may be run
    again (at least once); otherwise it fails as lost (at most once). `keyed` says that its targets
    are added one by one (`scheduling.runs.add_target`), each for a key. `after*` name the jobs
    whose runs lead to a run of this one. `scheduled_at` names the argument that receives the
    scheduled time as an ISO 8601 string. Further keywords go to Celery's `shared_task`. Raises
    InvalidDeclaration, which names what is wrong.
    """
    if callable(schedule):
        raise InvalidDeclaration(
            f"@job has the schedule {schedule!r}; write @job() with parentheses, or a Schedule"
        )

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        called = read.require_function(function)
        own = read.as_name(name or called)
        _refuse_unknown(task_options, own)
        given = read.as_kwargs(kwargs, own)
        argument = read.as_text(scheduled_at, own, "scheduled_at")
        read.require_arguments(function, {**given, **({argument: ""} if argument else {})}, own)
        doc = (function.__doc__ or "").strip().partition("\n")[0]
        said = doc if description is None else read.as_text(description, own, "description")
        route = read.as_text(queue, own, "queue")
        soft = read.as_span(soft_limit, own, "soft_limit")
        hard = read.as_span(hard_limit, own, "hard_limit")
        read.require_limits(soft, hard, own)
        values: dict[str, Any] = {
            "schedule": read.as_schedule(schedule, own),
            "description": said[:LONGEST_DESCRIPTION],
            "kwargs": given,
            "options": {"queue": route} if route else {},
            "scheduled_at_argument": argument,
            "catch_up": read.as_catch_up(catch_up, own),
            "catch_up_window": read.as_span(catch_up_window, own, "catch_up_window"),
            "overlap": read.as_overlap(overlap, own),
            "start_within": read.as_span(start_within, own, "start_within"),
            "soft_limit": soft,
            "hard_limit": hard,
            "retries": read.as_retries(retries, own),
            "retry_delay": read.as_some_span(retry_delay, own, "retry_delay"),
            "retry_delay_max": read.as_some_span(retry_delay_max, own, "retry_delay_max"),
            "rerun_if_lost": read.as_flag(idempotent, own, "idempotent"),
            "locks": read.as_names(locks, own, "locks"),
            "keyed": read.as_flag(keyed, own, "keyed"),
            "notify_on_success": read.as_flag(notify_on_success, own, "notify_on_success"),
            "notify_still_failing": read.as_flag(notify_still_failing, own, "notify_still_failing"),
            "recipients": read.as_names(recipients, own, "recipients"),
            "after": followed(own, success=after, failure=after_failure, any=after_any),
            "should_run": read.as_hook(should_run, own),
        }
        # Not before: a function that is refused is no task either.
        task = shared_task(**task_options)(function)
        registry.add(
            Declaration(name=own, kind="task", declared_in="function", task=task.name, **values)
        )
        return cast(Callable[P, R], task)

    return declare


def followed(
    name: str, *, success: object, failure: object, any: object
) -> tuple[FollowUpRule, ...]:
    """Read what `after`, `after_failure` and `after_any` say, at the follower `name`."""
    return (
        *_rules(success, "success", name, "after"),
        *_rules(failure, "failure", name, "after_failure"),
        *_rules(any, "any", name, "after_any"),
    )


def _rules(value: object, on: FollowOn, name: str, what: str) -> Iterator[FollowUpRule]:
    return (FollowUpRule(follower=n, on=on) for n in read.as_names(value, name, what))


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
