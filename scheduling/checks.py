"""System checks: each says what is wrong and what to type. Ids are never used for anything else."""

from __future__ import annotations

import difflib
import os
import shlex
import types
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from celery import current_app
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError

from scheduling import clock, declarations, pools, telling_checks
from scheduling import conf as conf_module
from scheduling.conf import PREFIX, Conf, conf
from scheduling.errors import InvalidSchedule
from scheduling.graphs import edges_of, path_between
from scheduling.registry import Declaration
from scheduling.runs.seats import MOST_SEATS
from scheduling.sync.rules import cycle_error, declared

if TYPE_CHECKING:
    from scheduling.models import Calendar

SCHEDULER = "scheduling.beat:Scheduler"
# Never shown, whatever is wrong with them.
SECRET = frozenset({"CHANNELS", "METRICS_TOKEN"})

# Where the default says too little.
OTHER_HINTS = {
    "RECORD_FOREIGN_TASKS": 'Write JOBS_RECORD_FOREIGN_TASKS = ("*",) for all tasks, () for none, '
    "or their names and patterns.",
}

Apps = Sequence[AppConfig] | None


def register() -> None:
    checks.register(check_settings)
    checks.register(check_celery)
    checks.register(check_declarations)
    checks.register(check_rows, checks.Tags.database)
    checks.register(check_calendars, checks.Tags.database)
    checks.register(telling_checks.check_channels)
    checks.register(telling_checks.check_recipients)
    checks.register(telling_checks.check_stored_recipients, checks.Tags.database)


def check_settings(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    return [*_unknown_settings(), *_mistyped_settings(), *_seats(), *_archive()]


def _unknown_settings() -> Iterator[CheckMessage]:
    known = [PREFIX + name for name in conf_module.names()]
    for name in dir(settings):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield Warning(
                f"There is no setting {name}.",
                hint=f"Write {near[0]}." if near else f"Known are {', '.join(known)}.",
                id="scheduling.W001",
            )


def _mistyped_settings() -> Iterator[CheckMessage]:
    hints = get_type_hints(Conf)
    for name in conf_module.names():
        value = getattr(settings, PREFIX + name, None)
        if value is None or fits(value, hints[name]):
            continue
        shown = "***" if name in SECRET else repr(value)
        yield Error(
            f"{PREFIX}{name} is {shown}, which is no {readable(hints[name])}.",
            hint=OTHER_HINTS.get(name)
            or f"Write {PREFIX}{name} = {vars(Conf)[name]!r}, which is the default, or another "
            f"{readable(hints[name])}.",
            id="scheduling.E001",
        )


def _seats() -> Iterator[CheckMessage]:
    """Each seat is a row, which everybody locks who wants one of them."""
    if not fits(conf.SEATS, dict[str, int]):
        return
    for key, number in conf.SEATS.items():
        if not 1 <= number <= MOST_SEATS:
            yield Error(
                f"JOBS_SEATS gives the lock {key!r} {number} seats.",
                hint=f"Give it 1 to {MOST_SEATS}.",
                id="scheduling.E002",
            )


def _archive() -> Iterator[CheckMessage]:
    """A warning where only the workers that archive may have the folder; this may be another's."""
    place = conf.ARCHIVE
    if not isinstance(place, str) or not place:
        return
    if not os.path.isabs(place):
        yield Error(
            f"JOBS_ARCHIVE is {place!r}, which is no absolute path.",
            hint="Write the whole path of a folder, or '' for no archive.",
            id="scheduling.E003",
        )
    elif not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):
        yield Warning(
            f"JOBS_ARCHIVE is {place!r}, which is no folder that this process can write to.",
            hint=f"Type: mkdir -p {shlex.quote(place)}; it belongs to the user of the workers.",
            id="scheduling.W014",
        )


def fits(value: object, hint: Any) -> bool:
    """Whether a value may stand for a setting of this type; whole numbers may stand for floats."""
    if get_origin(hint) is types.UnionType:
        return any(fits(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return isinstance(value, list | tuple) and all(fits(each, inner) for each in value)
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        return isinstance(value, dict) and all(
            isinstance(key, str) and fits(each, inner) for key, each in value.items()
        )
    if hint is Any:
        return True
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)


def readable(hint: Any) -> str:
    if get_origin(hint) is types.UnionType:
        return " or ".join(readable(each) for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is tuple:
        return f"list of {readable(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"dict of names to {readable(get_args(hint)[1])}"
    return "any value" if hint is Any else str(getattr(hint, "__name__", hint))


def check_declarations(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Warnings: an error would keep `migrate`, and with it every other job, from going on."""
    collected = declarations.collect()
    found: list[CheckMessage] = [
        Warning(
            str(problem),
            hint="Correct the declaration; until then the job stays as it was synced last.",
            id="scheduling.W007",
        )
        for problem in collected.problems
    ]
    found += _cycles(collected.declarations)
    found += _lonely_circuits(collected.declarations.values())
    found += _unasked(collected.declarations.values())
    return found


def _cycles(declared_jobs: Mapping[str, Declaration]) -> Iterator[CheckMessage]:
    edges = edges_of(declared(declared_jobs.values()))
    for name in sorted(declared_jobs):
        for follower in edges.get(name, ()):
            path = path_between(edges, follower, name)
            if path and name == min(path):
                yield Warning(
                    f"{cycle_error(name, path)}.",
                    hint="Remove one after= or one name of trigger_next_jobs.",
                    id="scheduling.W008",
                )


def _lonely_circuits(declared_jobs: Iterable[Declaration]) -> Iterator[CheckMessage]:
    """A misspelt circuit is another circuit, and its job does not stop with the others."""
    members: dict[str, list[str]] = defaultdict(list)
    for each in declared_jobs:
        if each.circuit is not None:
            members[each.circuit].append(each.name)
    for circuit, names in sorted(members.items()):
        others = [other for other in members if other != circuit and len(members[other]) > 1]
        near = difflib.get_close_matches(circuit, others, n=1, cutoff=0.8)
        if len(names) == 1 and near:
            yield Warning(
                f"Job {names[0]!r} is alone in the circuit {circuit!r}; there is one named "
                f"{near[0]!r}.",
                hint=f'Write circuit = "{near[0]}", or give yours a name that is less alike.',
                id="scheduling.W010",
            )


def _unasked(declared_jobs: Iterable[Declaration]) -> Iterator[CheckMessage]:
    for each in declared_jobs:
        if each.status is not None and each.circuit is None:
            yield Warning(
                f"Job {each.name!r} has a status(), which nobody asks, as it has no circuit.",
                hint="Name a circuit, or remove the hook.",
                id="scheduling.W013",
            )


def check_celery(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    return [*_serializers(), *_prefetch(), *_visibility(), *_scheduler(), *_pool()]


def _serializers() -> Iterator[CheckMessage]:
    celery = current_app.conf
    accepted = {str(each) for each in celery.accept_content or ()}
    if celery.task_serializer != "json" or not accepted <= {"json", "application/json"}:
        yield Warning(
            f"Celery sends tasks as {celery.task_serializer} and accepts "
            f"{', '.join(sorted(accepted))}: who can write to the broker can run code.",
            hint='Write CELERY_TASK_SERIALIZER = "json" and CELERY_ACCEPT_CONTENT = ["json"].',
            id="scheduling.W002",
        )


def _prefetch() -> Iterator[CheckMessage]:
    multiplier = current_app.conf.worker_prefetch_multiplier
    if multiplier != 1:
        yield Warning(
            f"Celery's prefetch multiplier is {multiplier}: a busy worker keeps messages that "
            "an idle one could start.",
            hint="Write CELERY_WORKER_PREFETCH_MULTIPLIER = 1.",
            id="scheduling.W003",
        )
    elif not current_app.conf.worker_disable_prefetch and _is_on_redis():
        yield Warning(
            "Celery's workers prefetch: a message waits behind a long job although another "
            "worker is idle.",
            hint="Write CELERY_WORKER_DISABLE_PREFETCH = True.",
            id="scheduling.W003",
        )


def _is_on_redis() -> bool:
    scheme = str(current_app.conf.broker_url or "").partition(":")[0]
    return scheme in ("redis", "rediss", "redis+socket", "sentinel", "valkey")


def _visibility() -> Iterator[CheckMessage]:
    if not _is_on_redis():
        return
    options = current_app.conf.broker_transport_options or {}
    visible = timedelta(seconds=float(options.get("visibility_timeout", 3600)))
    longest, name = longest_limit()
    if visible <= longest:
        yield Warning(
            f"Celery's visibility timeout, {visible}, is not above the longest hard limit, "
            f"{longest} of {name}: messages of running jobs are delivered again.",
            hint="Write CELERY_BROKER_TRANSPORT_OPTIONS = "
            f'{{"visibility_timeout": {int(2 * longest.total_seconds())}}}.',
            id="scheduling.W004",
        )


def longest_limit() -> tuple[timedelta, str]:
    """The longest hard limit in the code, and whose it is."""
    limits: Iterable[tuple[timedelta, str]] = [
        (conf.INTERNAL_HARD_LIMIT, f"{PREFIX}INTERNAL_HARD_LIMIT"),
        (conf.EXTERNAL_HARD_LIMIT, f"{PREFIX}EXTERNAL_HARD_LIMIT"),
        *(
            (each.hard_limit, f"job {each.name!r}")
            for each in declarations.collect().declarations.values()
            if each.hard_limit is not None
        ),
    ]
    return max(limits)


def _scheduler() -> Iterator[CheckMessage]:
    scheduler = current_app.conf.beat_scheduler
    if conf.SHADOW:
        yield Warning(
            "Beatkeeper is in shadow mode: it fires nothing and leaves all to the stock scheduler.",
            hint="Compare both with `manage.py jobs shadow`; remove JOBS_SHADOW to switch over.",
            id="scheduling.W009",
        )
    elif scheduler != SCHEDULER:
        yield Warning(
            f"Celery's beat is run by {scheduler!r}: the jobs of the code do not fire.",
            hint=f'Write CELERY_BEAT_SCHEDULER = "{SCHEDULER}".',
            id="scheduling.W005",
        )


def _pool() -> Iterator[CheckMessage]:
    """Of the pool in the settings; a worker tells of one that its command line names."""
    pool = pools.pool_name(current_app.conf.worker_pool)
    for name, each in sorted(declarations.collect().declarations.items()):
        is_external = each.kind == "argv" or (each.kind == "command" and not each.internal)
        limits = pools.unenforced(pool, soft=each.soft_limit, hard=each.hard_limit)
        if limits and not is_external:
            yield Warning(
                f"The {pool} pool cannot enforce {limits} for job {name!r}: its workers refuse it.",
                hint='Write CELERY_WORKER_POOL = "prefork", give the job a queue of a worker with '
                "that pool, make it an external command, or take the limit away.",
                id="scheduling.W012",
            )


def check_rows(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Only with `check --database default` and when migrating."""
    from scheduling.declarations import periodic

    if not databases or "default" not in databases or periodic.has_ephem():
        return []
    try:
        names = periodic.solar_names()
    except DatabaseError:
        return []  # not migrated yet
    if not names:
        return []
    return [
        Warning(
            f"Solar schedules need the package ephem; these do not fire: {', '.join(names)}.",
            hint="Type: pip install 'celery[solar]'",
            id="scheduling.W006",
        )
    ]


def check_calendars(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Only with `check --database default` and when migrating."""
    from scheduling.models import Calendar

    if not databases or "default" not in databases:
        return []
    try:
        used = list(Calendar.objects.filter(jobs__retired_at=None, jobs__isnull=False).distinct())
    except DatabaseError:
        return []  # not migrated yet
    return [
        Warning(
            f"The calendar {calendar.name!r} {problem}: its jobs fire on every day.",
            hint="Give it its days in the admin, under Holiday calendars.",
            id="scheduling.W011",
        )
        for calendar in used
        if (problem := _calendar_problem(calendar))
    ]


def _calendar_problem(calendar: Calendar) -> str:
    try:
        days_off = calendar.days_off
    except InvalidSchedule as error:
        return f"cannot be read ({error})"
    if not days_off:
        return "has no days"
    today = clock.now().astimezone(ZoneInfo(calendar.timezone)).date()
    if not days_off.yearly and max(days_off.dates) < today:
        return f"has no day after {max(days_off.dates).isoformat()}"
    return ""
