"""sources: what enumerates resources, how far it has come; live, trial, list, finish."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from scheduling import clock, inventory, runs
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    brief,
    iso,
    operator,
    table,
)
from scheduling.models import Source

ACTIONS = ("live", "trial", "list", "finish")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, help="default: show them")
    parser.add_argument("source", nargs="?", metavar="NAME")
    parser.add_argument(
        "--incremental", action="store_true", help="of list: only what has changed since the last"
    )
    parser.add_argument(
        "--force", action="store_true", help="of finish: retire it, however much it is"
    )


def sources(options: Namespace, say: Say) -> Answer:
    if options.incremental and options.action != "list":
        raise BadInput("--incremental is for `sources list NAME`; drop it")
    if options.force and options.action != "finish":
        raise BadInput("--force is for `sources finish NAME`; drop it")
    if options.action is None:
        return show()
    if options.source is None:
        raise BadInput(f"`sources {options.action}` needs the name of a source")
    source, by, now = runs.source_named(options.source), operator(), clock.now()
    match options.action:
        case "live":
            changed = runs.set_trial(source, is_trial=False, by=by, now=now)
            what = f"{source.name} is live" if changed else f"{source.name} is live already"
            if changed:
                runs.list_now(source, full=True, by=by, now=now)
                what += "; its full listing is queued"
            return Answer(data={"changed": int(changed)}, text=what)
        case "trial":
            changed = runs.set_trial(source, is_trial=True, by=by, now=now)
            already = "" if changed else " already"
            return Answer(
                data={"changed": int(changed)}, text=f"{source.name} is on trial{already}"
            )
        case "list":
            run = runs.list_now(source, full=not options.incremental, by=by, now=now)
            return Answer(
                data={"id": str(run.pk), "job": run.name, "state": run.state},
                text=f"{run.name} is queued as run {run.pk}",
            )
    gone = runs.finish_listing(source, force=options.force, by=by, now=now)
    return Answer(
        data={"gone": gone}, text=f"{gone} resources that {source.name} left out are gone"
    )


def show() -> Answer:
    found = [as_dict(source) for source in Source.objects.prefetch_related("jobs")]
    if not found:
        return Answer(data=[], text="No sources; declare one with @source.")
    rows = [
        (
            row["name"],
            row["state"],
            ", ".join(row["jobs"]) or "-",
            row["listed"],
            row["gone"],
            brief_of(row["listing_ended_at"]),
            brief_of(row["full_listing_ended_at"]),
        )
        for row in found
    ]
    head = ("SOURCE", "STATE", "JOBS", "LISTED", "GONE", "LAST LISTING", "LAST FULL")
    text = table(head, rows)
    if some := [row["name"] for row in found if row["has_more"]]:
        text += (
            f"\n\nOf {', '.join(some)}, the newest {inventory.MOST_COUNTED:,} resources are "
            "counted, and there are more; `jobs coverage` counts all targets."
        )
    return Answer(data=found, text=text)


def as_dict(source: Source) -> dict[str, Any]:
    """Describe a source; `listed` and `gone` are numbers of resources, of the newest only if it
    `has_more`.
    """
    counts = inventory.listed_by(source)
    return {
        "name": source.name,
        "state": runs.standing_of(source),
        "jobs": sorted(job.name for job in source.jobs.all()),
        "express": source.is_express,
        "listed": counts.listed,
        "gone": counts.gone,
        "has_more": counts.has_more,
        "listing_began_at": iso(source.listing_began_at),
        "listing_ended_at": iso(source.listing_ended_at),
        "full_listing_ended_at": iso(source.full_listing_ended_at),
        "version": source.version,
    }


def brief_of(time: str | None) -> str:
    return brief(datetime.fromisoformat(time) if time else None)


VERBS = (
    Verb("sources", "what enumerates resources; live, trial, list, finish", arguments, sources),
)
