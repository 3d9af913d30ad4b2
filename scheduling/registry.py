"""What code declares: jobs as values, by name. Pure: no Django, no database.

`declarations` fills the registry from commands, functions and settings; `sync` writes it to the
database; workers look up the hooks, which stay in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, cast

from celery import shared_task

from scheduling.errors import InvalidDeclaration, UnknownJob
from scheduling.policies import SUPPORTED_OVERLAPS, CatchUp, Overlap
from scheduling.schedules import Every, Manual, Schedule, parse, require_supported

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
    should_run: Hook | None = None
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

P = ParamSpec("P")
R = TypeVar("R")


def as_schedule(value: Schedule | str | timedelta | None, name: str) -> Schedule:
    """Read what a declaration may give as its schedule. Raises InvalidDeclaration."""
    if value is None:
        return Manual()
    if isinstance(value, str):
        return require_supported(parse(value))
    if isinstance(value, timedelta):
        return Every(value)
    if isinstance(value, Schedule):
        return require_supported(value)
    raise InvalidDeclaration(
        f"Job {name!r}: schedule is {value!r}; give a Schedule, its text form or a timedelta"
    )


def as_overlap(value: Overlap | str, name: str) -> Overlap:
    """Read what a declaration may give as its overlap. Raises InvalidDeclaration."""
    choices = [member.value for member in SUPPORTED_OVERLAPS]
    if value not in choices:
        raise InvalidDeclaration(
            f"Job {name!r}: overlap is {value!r}; choose one of {', '.join(choices)}"
        )
    return Overlap(value)


def as_span(value: timedelta | None, name: str, what: str) -> timedelta | None:
    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return value
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give a positive timedelta")


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
    idempotent: bool = False,
    locks: Iterable[str] = (),
    keyed: bool = False,
    after: str | Iterable[str] = (),
    after_failure: str | Iterable[str] = (),
    after_any: str | Iterable[str] = (),
    should_run: Hook | None = None,
    notify_on_success: bool = False,
    notify_still_failing: bool = False,
    recipients: Iterable[str] = (),
    **task_options: Any,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a function as a job; it stays an ordinary Celery task (`f.delay()` still works).

    `name` defaults to the function's. `idempotent` says that a run whose worker died may be run
    again (at least once); otherwise it fails as lost (at most once). `keyed` says that its targets
    are added one by one (`scheduling.runs.add_target`), each for a key. `after*` name the jobs
    whose runs lead to a run of this one. `scheduled_at` names the argument that receives the
    scheduled time as an ISO 8601 string. Further keywords go to Celery's `shared_task`.
    """

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        own = name or function.__name__
        doc = (function.__doc__ or "").strip().partition("\n")[0]
        task = shared_task(**task_options)(function)
        registry.add(
            Declaration(
                name=own,
                kind="task",
                declared_in="function",
                task=task.name,
                schedule=as_schedule(schedule, own),
                description=(description if description is not None else doc)[:200],
                kwargs=dict(kwargs or {}),
                options={"queue": queue} if queue else {},
                scheduled_at_argument=scheduled_at,
                catch_up=CatchUp(catch_up),
                catch_up_window=as_span(catch_up_window, own, "catch_up_window"),
                overlap=as_overlap(overlap, own),
                start_within=as_span(start_within, own, "start_within"),
                soft_limit=as_span(soft_limit, own, "soft_limit"),
                hard_limit=as_span(hard_limit, own, "hard_limit"),
                retries=retries,
                retry_delay=retry_delay,
                rerun_if_lost=idempotent,
                locks=tuple(locks),
                keyed=keyed,
                notify_on_success=notify_on_success,
                notify_still_failing=notify_still_failing,
                recipients=tuple(recipients),
                after=(
                    *(FollowUpRule(follower=n, on="success") for n in as_names(after)),
                    *(FollowUpRule(follower=n, on="failure") for n in as_names(after_failure)),
                    *(FollowUpRule(follower=n, on="any") for n in as_names(after_any)),
                ),
                should_run=should_run,
            )
        )
        return cast(Callable[P, R], task)

    return declare


def as_names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
