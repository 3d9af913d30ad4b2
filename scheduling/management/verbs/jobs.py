"""list, show: jobs and where they stand."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from scheduling import clock
from scheduling.ledger import jobs_as_dicts
from scheduling.management.verbs.base import Answer, Say, Verb, brief, find_job, table
from scheduling.models import FollowUp, Job
from scheduling.models.base import Pausable
from scheduling.sizes import format_size


def list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--retired", action="store_true", help="also jobs gone from the code")


def list_jobs(options: Namespace, say: Say) -> Answer:
    jobs = list(Job.objects.all() if options.retired else Job.objects.active())
    rows = jobs_as_dicts(jobs, clock.now())
    if not rows:
        return Answer(data=[], text="No jobs; declare one and run `manage.py jobs sync`.")
    columns = ("JOB", "STATE", "NEXT FIRE", "LAST RUN", "TARGETS", "SCHEDULE")
    return Answer(data=rows, text=table(columns, [cells(row) for row in rows]))


def cells(row: dict[str, Any]) -> tuple[object, ...]:
    last = row["last_run"]
    return (
        row["name"],
        f"{row['state']}{' (paused)' if row['paused'] else ''}",
        when(row["next_fire_at"]),
        f"{last['state']} {when(last['scheduled_at'])}" if last else "-",
        row["targets"],
        row["schedule"],
    )


def when(time: str | None) -> str:
    return brief(datetime.fromisoformat(time) if time else None)


def show_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")


def show(options: Namespace, say: Say) -> Answer:
    job = find_job(options.job)
    row = jobs_as_dicts([job], clock.now())[0]
    last = row["last_run"]
    facts = {
        "name": job.name,
        "description": job.description,
        "runs": f"{job.get_kind_display()} {job.task or job.command}",
        "declared in": job.get_declared_in_display(),
        "schedule": f"{job.schedule} ({row['sentence']})",
        "error": job.schedule_error,
        "state": row["state"],
        "paused": pause_in_words(job) if row["paused"] else "",
        "next fire": when(row["next_fire_at"]),
        "last run": f"{last['state']} {when(last['scheduled_at'])} {last['id']}" if last else "-",
        "targets": row["targets"],
        "locks": locks(job),
        "retries": retries(job),
        "memory": format_size(job.memory_limit) if job.memory_limit else "",
        "follow-ups": follow_ups(job),
        "set by hand": ", ".join(sorted(job.overrides)),
        "retired": brief(job.retired_at) if job.retired_at else "",
    }
    lines = [f"{name + ':':<13}{fact}" for name, fact in facts.items() if fact != ""]
    return Answer(data=row, text="\n".join(lines))


def pause_in_words(scope: Pausable) -> str:
    if scope.paused_at is None:
        return "everything is"
    until = f" until {brief(scope.paused_until)}" if scope.paused_until else ""
    reason = f": {scope.pause_reason}" if scope.pause_reason else ""
    return f"by {scope.paused_by or '-'} since {brief(scope.paused_at)}{until}{reason}"


def locks(job: Job) -> str:
    """Those that all of its runs hold; a target's resource comes to them."""
    until = " until the next fire" if job.locks_until_next_fire else ""
    return f"{', '.join(job.locks) or 'resources only'}{until}" if job.locks or until else ""


def retries(job: Job) -> str:
    if not job.retries:
        return ""
    on = f" on {', '.join(map(str, job.retry_on))}" if job.retry_on else ""
    return f"{job.retries}{on}"


def follow_ups(job: Job) -> str:
    rules = FollowUp.objects.filter(job=job).select_related("follower").order_by("follower__name")
    return ", ".join(
        f"{rule.follower.name} on {rule.get_on_display()}{' with others' if rule.join else ''}"
        for rule in rules
    )


VERBS = (
    Verb("list", "all jobs, their state and next fire", list_arguments, list_jobs),
    Verb("show", "one job", show_arguments, show),
)
