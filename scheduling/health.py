"""Is the installation well? Each check is one cheap look, by an index or at one service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from celery import current_app
from django import db
from django.db.models import Count
from kombu.exceptions import OperationalError

from scheduling import clock, pools, redis
from scheduling.archive import progress
from scheduling.conf import conf
from scheduling.explanations import ago, rounded
from scheduling.models import DeadLetter, Job, Process, ProcessKind, Run, Target
from scheduling.services import unserved

BEAT_SEEN_WITHIN = timedelta(seconds=10)
# Metered catch-up may leave a fire unclaimed for a while; a beat that is well is far quicker.
PATIENCE = timedelta(seconds=60)
BROKER_TIMEOUT = 2
CHECKPOINT_PATIENCE = timedelta(minutes=5)
DEAD_LETTERS_SEEN = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`detail` is for the operator: it may name jobs and hosts, never a secret."""

    name: str
    ok: bool
    detail: str


Look = Callable[[datetime], tuple[bool, str]]


def check_now() -> datetime:
    """Give the time for the checks, also when the database cannot be asked."""
    try:
        return clock.now()
    except db.Error:
        return datetime.now(UTC)


def checks(now: datetime, names: Iterable[str] | None = None) -> list[Check]:
    """Look at everything, or at what is named, in a fixed order; raises nothing.

    Without a database, what is read from it is not ok, and the database itself is asked only once.
    """
    wanted = NAMES if names is None else [name for name in NAMES if name in set(names)]
    looks: Mapping[str, Look] = SERVICES | RECORDS
    found: list[Check] = []
    database_error = ""
    for name in wanted:
        if name in RECORDS and database_error:
            found.append(Check(name=name, ok=False, detail="unknown without the database"))
            continue
        try:
            ok, detail = looks[name](now)
        except db.Error as error:
            database_error = first_line(error)
            ok, detail = False, database_error
        found.append(Check(name=name, ok=ok, detail=detail))
    return found


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


# --- services -------------------------------------------------------------------------------------


def database(now: datetime) -> tuple[bool, str]:
    with db.connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True, db.connection.vendor


def redis_answers(now: datetime) -> tuple[bool, str]:
    try:
        redis.client().ping()
    except redis.RedisError as error:
        return False, f"does not answer ({type(error).__name__}); nothing is lost meanwhile"
    return True, "answers"


def broker(now: datetime) -> tuple[bool, str]:
    with current_app.connection_for_read(connect_timeout=BROKER_TIMEOUT) as link:
        kind = link.transport.driver_type
        if kind == "redis":  # kombu passes the connection's own timeout to other transports only
            patience = {"socket_connect_timeout": BROKER_TIMEOUT, "socket_timeout": BROKER_TIMEOUT}
            link.transport_options = {**(link.transport_options or {}), **patience}
        try:
            link.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT)
        except (OperationalError, OSError) as error:
            return False, f"{kind} does not answer ({type(error).__name__})"
    return True, f"{kind} answers"


# --- what the database says -----------------------------------------------------------------------


def beat(now: datetime) -> tuple[bool, str]:
    ok, detail = processes(ProcessKind.BEAT, now, BEAT_SEEN_WITHIN, "celery -A config beat")
    alive = Process.objects.filter(kind=ProcessKind.BEAT, seen_at__gte=now - BEAT_SEEN_WITHIN)
    modes = {bool(each.get("shadow")) for each in alive.values_list("detail", flat=True)}
    if modes == {True}:
        return ok, f"{detail}; SHADOW MODE: nothing is fired until JOBS_SHADOW is removed"
    if len(modes) > 1:
        return False, f"{detail}; some are in shadow mode, others fire; stop one sort of them"
    return ok, detail


def workers(now: datetime) -> tuple[bool, str]:
    return processes(ProcessKind.WORKER, now, conf.lease, "celery -A config worker")


def processes(
    kind: ProcessKind, now: datetime, within: timedelta, command: str
) -> tuple[bool, str]:
    seen = list(
        Process.objects.filter(kind=kind).order_by("-seen_at").values_list("seen_at", flat=True)
    )
    alive = sum(1 for moment in seen if moment >= now - within)
    if alive:
        return True, f"{alive} alive, the last sign {ago(seen[0], now)}"
    if seen:
        return False, f"the last sign was {ago(seen[0], now)}; start one with `{command}`"
    return False, f"none is known; start one with `{command}`"


def due_fires(now: datetime) -> tuple[bool, str]:
    return waiting(oldest_due(now), now, "fire is claimed")


def publishing(now: datetime) -> tuple[bool, str]:
    return waiting(oldest_unpublished(now), now, "run that is ready is published")


def oldest_due(now: datetime) -> datetime | None:
    return Target.objects.due(now).values_list("next_fire_at", flat=True).first()


def oldest_unpublished(now: datetime) -> datetime | None:
    return Run.objects.to_publish(now).values_list("publish_at", flat=True).first()


def waiting(oldest: datetime | None, now: datetime, what: str) -> tuple[bool, str]:
    if oldest is None:
        return True, f"every {what}"
    return now - oldest <= PATIENCE, f"the oldest waits for {rounded(now - oldest)}"


def leases(now: datetime) -> tuple[bool, str]:
    lapsed = Run.objects.lapsed(now - PATIENCE).count()
    if lapsed:
        return False, f"{lapsed} runs of silent workers are not taken from them; is a beat running?"
    return True, "no run has lost its worker"


def checkpoint(now: datetime) -> tuple[bool, str]:
    """Asked of the beats, as a checkpoint in a file is on their machine."""
    if not conf.SNAPSHOT:
        return True, "off"
    beats = Process.objects.filter(kind=ProcessKind.BEAT, seen_at__gte=now - BEAT_SEEN_WITHIN)
    told = [beat for beat in beats if "checkpoint_at" in beat.detail]
    if not told:
        return True, "no beat is there to take one"
    if errors := [
        beat.detail["checkpoint_error"] for beat in told if beat.detail["checkpoint_error"]
    ]:
        return False, errors[0]
    patience = max(CHECKPOINT_PATIENCE, 4 * conf.SNAPSHOT_EVERY)
    taken = [datetime.fromisoformat(at) for beat in told if (at := beat.detail["checkpoint_at"])]
    if taken:
        return now - max(taken) <= patience, f"the newest was taken {ago(max(taken), now)}"
    started = min(beat.started_at for beat in told)
    return now - started <= patience, f"none was taken since a beat started {ago(started, now)}"


def clocks(now: datetime) -> tuple[bool, str]:
    """The time is the database's, so a wrong clock fires nothing wrongly; logs lie, though."""
    seen = Process.objects.filter(seen_at__gte=now - conf.lease).order_by("host", "-seen_at")
    off = {
        row.host: skew
        for row in seen
        if abs(skew := row.detail.get("clock_skew", 0.0)) > conf.CLOCK_SKEW.total_seconds()
    }
    if not off:
        return True, "all agree with the database's"
    told = ", ".join(
        f"{host} is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
        for host, skew in off.items()
    )
    return False, f"{told}; set the time there, by NTP for example"


def schedules(now: datetime) -> tuple[bool, str]:
    broken = list(
        Job.objects.active().exclude(schedule_error="").values_list("name", flat=True)[:4]
    )
    if broken:
        return False, f"cannot be read: {', '.join(broken[:3])}{', ...' if broken[3:] else ''}"
    return True, "all can be read"


def services(now: datetime) -> tuple[bool, str]:
    missing = unserved(now)
    if not missing:
        return True, "a worker is there for all"
    told = "; ".join(f"{number} on queue {queue!r}" for queue, number in missing.items())
    first = next(iter(missing))
    return False, (
        f"no worker takes any from their queue: {told}; "
        f"start one with `celery -A config worker --queues {first} --pool threads`"
    )


def limits(now: datetime) -> tuple[bool, str]:
    """Whether each worker can enforce the time limits of the jobs that it is given."""
    alive = Process.objects.filter(kind=ProcessKind.WORKER, seen_at__gte=now - conf.lease)
    default = str(current_app.conf.task_default_queue)
    refused: dict[str, set[str]] = {}
    for detail in alive.order_by("name").values_list("detail", flat=True):
        pool, queues = detail.get("pool") or "", detail.get("queues") or ()
        names = pools.jobs_with_vain_limits(pool, queues, default)
        refused.setdefault(pool, set()).update(names)
    told = [f"{', '.join(sorted(names)[:3])} ({pool})" for pool, names in refused.items() if names]
    if told:
        return False, f"workers refuse jobs, as their pool cannot enforce limits: {'; '.join(told)}"
    return True, "every worker can enforce those of its jobs"


def dead_letters(now: datetime) -> tuple[bool, str]:
    """Somebody sends what no worker can read: a producer that is wrong, or a stranger."""
    recent = DeadLetter.objects.filter(received_at__gt=now - DEAD_LETTERS_SEEN).count()
    if recent:
        return False, f"{recent} in the last hour; look at them with `jobs dead-letters`"
    return True, "none in the last hour"


def failing_jobs(now: datetime) -> tuple[bool, str]:
    """Always ok: a job that fails is its owner's matter, and the installation is well."""
    found = failing_targets()
    if not found["targets"]:
        return True, "none"
    return True, f"{found['jobs']} jobs, {found['targets']} targets"


def failing_targets() -> dict[str, int]:
    """Count what is failing: {"jobs": n, "targets": n}."""
    failing = Target.objects.filter(failing_since__isnull=False, retired_at=None)
    return failing.aggregate(jobs=Count("job", distinct=True), targets=Count("pk"))


SERVICES: dict[str, Look] = {"database": database, "redis": redis_answers, "broker": broker}
RECORDS: dict[str, Look] = {
    "beat": beat,
    "workers": workers,
    "due": due_fires,
    "publishing": publishing,
    "leases": leases,
    "limits": limits,
    "checkpoint": checkpoint,
    "clocks": clocks,
    "schedules": schedules,
    "services": services,
    "dead_letters": dead_letters,
    "archive": progress.look,
    "failing": failing_jobs,
}
NAMES = (*SERVICES, *RECORDS)
