"""backfill: the fires of a chosen past range, run after all."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from scheduling import clock, runs
from scheduling.errors import InvalidBackfill
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    brief,
    count,
    find_job,
    iso,
    moment,
    operator,
)
from scheduling.models import Job, Target
from scheduling.policies import Overlap
from scheduling.runs.cursors import by_rules


def arguments(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("job", nargs="?", metavar="JOB")
    which.add_argument("--all", action="store_true", help="every job that has fire times")
    parser.add_argument(
        "--from", dest="after", type=moment, required=True, metavar="ISO", help="not included"
    )
    parser.add_argument(
        "--to", dest="until", type=moment, metavar="ISO", help="included (default: now)"
    )
    parser.add_argument("--key", help="one target's only; empty for the one without a key")
    parser.add_argument("--dry-run", action="store_true", help="only list the fire times")
    parser.add_argument("--newest-first", action="store_true", help="default: oldest first")
    parser.add_argument(
        "--missing", action="store_true", help="leave out what has succeeded or is open"
    )
    parser.add_argument(
        "--max-open",
        type=count,
        default=1,
        metavar="N",
        help="how many may be ready at once; more than one of a target run side by side only with "
        "--overlap allow (default: 1)",
    )
    parser.add_argument(
        "--overlap",
        choices=[member.value for member in Overlap],
        default=Overlap.QUEUE.value,
        help="towards the runs that are open now (default: after them)",
    )


def backfill(options: Namespace, say: Say) -> Answer:
    now = clock.now()
    until = options.until or now
    if options.all and options.key is not None:
        raise BadInput("--key names a target of one job; drop it or --all")
    jobs = with_fire_times() if options.all else [find_job(options.job)]
    asked: dict[str, Any] = {
        "after": options.after,
        "until": until,
        "key": options.key,
        "newest_first": options.newest_first,
        "missing_only": options.missing,
        "now": now,
    }
    # All of them before the first is made: who is refused leaves nothing half done.
    planned = {job: runs.backfill_fires(job, **asked) for job in jobs}
    if options.dry_run:
        return answer(planned, created=0, dry_run=True)
    created = 0
    for job in jobs:
        made = runs.backfill(
            job,
            **asked,
            max_open=options.max_open,
            overlap=Overlap(options.overlap),
            by=operator(),
        )
        planned[job] = made.fires
        created += made.created
        if made.created:
            say(f"{job}: {made.created} runs; take them back with: jobs cancel {made.id}")
    return answer(planned, created=created, dry_run=False)


def with_fire_times() -> list[Job]:
    """The jobs whose targets all have fire times. Raises InvalidBackfill if one cannot be read."""
    found = []
    for job in Job.objects.active().select_related("calendar"):
        texts = Target.objects.filter(job=job, retired_at=None).values_list("schedule", flat=True)
        try:
            schedules = [by_rules(text or job.schedule, job) for text in set(texts.order_by())]
        except ValueError as error:
            raise InvalidBackfill(f"Job {job.name!r}: {error}; name the jobs one by one") from error
        if schedules and all(schedule.is_anchored for schedule in schedules):
            found.append(job)
    return found


def answer(planned: dict[Job, list[datetime]], *, created: int, dry_run: bool) -> Answer:
    fires = [fire for found in planned.values() for fire in found]
    lines = [f"{brief(fire)}  {job}" for job, found in planned.items() for fire in found]
    total = f"{len(fires)} fire times; " + (
        "nothing was made" if dry_run else f"{created} runs made"
    )
    return Answer(
        data={"fires": [iso(fire) for fire in fires], "created": created},
        text="\n".join([*lines, total]),
    )


VERBS = (Verb("backfill", "run the fires of a past range after all", arguments, backfill),)
