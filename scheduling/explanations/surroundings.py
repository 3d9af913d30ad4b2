"""What an explanation names beside the row itself, read for many rows at once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from celery import current_app
from django.db.models import Count, Q

from scheduling.conf import conf
from scheduling.models import Cause, Process, ProcessKind, Reason, Run, Seat, State

MOST_PROCESSES = 500
MOST_PREDECESSORS = 500

RUN_ID = re.compile(r"\brun ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
WAITED_FOR = re.compile(r"; it waited for (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    name: str
    queues: frozenset[str]
    places: int
    busy: int

    @property
    def has_room(self) -> bool:
        return self.busy < self.places


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Empty where nobody looked: explanations then say less, and ask nothing themselves."""

    runs: Mapping[UUID, Run] = field(default_factory=dict)
    """Those that rows name, by id."""
    replacing: Mapping[tuple[int, datetime], Run] = field(default_factory=dict)
    """(target, moment of its claim) -> the run that was made then."""
    seats: Mapping[str, Seat] = field(default_factory=dict)
    """Held locks by their key, each with the run that holds it."""
    before: Mapping[int, Sequence[Run]] = field(default_factory=dict)
    """target -> runs that were executed while others of the target could not start in time."""
    workers: Sequence[Worker] | None = None
    """Those that are alive; None if nobody looked."""
    beat_seen_at: datetime | None = None
    looked_for_beats: bool = False

    def consumers(self, queue: str) -> list[Worker]:
        """The workers that take messages from a queue; "" is the default one."""
        name = queue or default_queue()
        return [worker for worker in self.workers or () if name in worker.queues]


def default_queue() -> str:
    return str(current_app.conf.task_default_queue)


NOTHING_ELSE = Surroundings()


def surroundings_of(rows: Sequence[Run], now: datetime) -> Surroundings:
    """Look around once for all these rows: at most six queries, however many rows they are."""
    queued = [row for row in rows if row.state == State.QUEUED]
    late = [row for row in rows if was_late_to_start(row)]
    beat_seen_at, workers = _processes(now) if queued or late else (None, None)
    return Surroundings(
        runs=_named(rows),
        replacing={
            (row.target_id, row.created_at): row
            for row in rows
            if row.target_id is not None
            and row.state != State.SKIPPED
            and row.cause in (Cause.SCHEDULE, Cause.CATCH_UP)
        },
        seats=_seats({row.waiting_for or waited_for(row) for row in (*queued, *late)} - {""}, now),
        before=_before(late),
        workers=workers,
        beat_seen_at=beat_seen_at,
        looked_for_beats=workers is not None,
    )


def was_late_to_start(row: Run) -> bool:
    """Claimed, and skipped because no worker started it in time; not missed by the beats."""
    return row.state == State.SKIPPED and row.reason == Reason.LATE and row.start_by is not None


def waited_for(row: Run) -> str:
    """The lock that a run was waiting for when it was skipped; "" if there was none."""
    found = WAITED_FOR.search(row.detail)
    return found[1] if found else ""


def named_run(row: Run) -> UUID | None:
    """The id of the run that the detail of a skip names."""
    found = RUN_ID.search(row.detail) if row.state == State.SKIPPED else None
    return UUID(found[1]) if found else None


def _named(rows: Sequence[Run]) -> dict[UUID, Run]:
    known = {row.pk: row for row in rows}
    wanted = {row.waiting_on_id or named_run(row) for row in rows} - {None}
    missing = [pk for pk in wanted if pk is not None and pk not in known]
    return known | Run.objects.defer("output", "error").in_bulk(missing) if missing else known


def _seats(keys: Iterable[str], now: datetime) -> dict[str, Seat]:
    """key -> a seat of it that is held."""
    wanted = sorted(keys)
    if not wanted:
        return {}
    rows = Seat.objects.filter(key__in=wanted).order_by("key", "-number").select_related("run")
    return {
        seat.key: seat
        for seat in rows.defer("run__output", "run__error")
        if seat.is_held(now, running_attempt=_running_attempt(seat))
    }


def _running_attempt(seat: Seat) -> int | None:
    run = seat.run
    return run.attempt if run is not None and run.state == State.RUNNING else None


def _before(late: Sequence[Run]) -> dict[int, list[Run]]:
    """The executed runs of the same targets that were open when these ran out of time."""
    limits = [row.start_by for row in late if row.start_by is not None]
    if not limits:
        return {}
    executed = Run.objects.filter(
        Q(ended_at=None) | Q(ended_at__gte=min(limits)),
        target_id__in={row.target_id for row in late},
        started_at__lte=max(limits),
    ).defer("output", "error")
    found: dict[int, list[Run]] = defaultdict(list)
    for run in executed.order_by("-scheduled_at")[:MOST_PREDECESSORS]:
        if run.target_id is not None:
            found[run.target_id].append(run)
    return found


def _processes(now: datetime) -> tuple[datetime | None, list[Worker]]:
    """The last sign of a beat, and the workers that are alive, by name."""
    known = Process.objects.order_by("-seen_at")[:MOST_PROCESSES]
    beats = [process.seen_at for process in known if process.kind == ProcessKind.BEAT]
    alive = sorted(
        (
            process
            for process in known
            if process.kind == ProcessKind.WORKER and process.seen_at >= now - conf.lease
        ),
        key=lambda process: process.name,
    )
    busy: dict[str, int] = defaultdict(int)
    if alive:
        # Each child of a worker runs under the worker's name, a slash and its number.
        running = Run.objects.running().order_by().values_list("worker").annotate(Count("pk"))
        for name, number in running:
            busy[name.rpartition("/")[0]] += number
    return beats[0] if beats else None, [
        Worker(
            name=process.name,
            queues=frozenset(process.detail.get("queues") or ()),
            places=int(process.detail.get("concurrency") or 1),
            busy=busy[process.name],
        )
        for process in alive
    ]
