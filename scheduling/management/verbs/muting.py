"""mute, unmute: keep quiet about circuits, jobs or resources for a while."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from scheduling import clock
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    add_reason,
    find_job,
    moment,
    operator,
)
from scheduling.management.verbs.holding import find_circuit, find_resource
from scheduling.runs import telling


def scope_arguments(parser: ArgumentParser) -> None:
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--circuit", action="append", metavar="CIRCUIT", help="may be repeated")
    scope.add_argument("--job", action="append", metavar="JOB", help="may be repeated")
    scope.add_argument(
        "--resource", "--key", action="append", metavar="KEY", help="may be repeated"
    )


def mute_arguments(parser: ArgumentParser) -> None:
    scope_arguments(parser)
    parser.add_argument("--until", type=moment, required=True, metavar="ISO")
    add_reason(parser, help="shown wherever the mute is", longest=telling.LONGEST_REASON)


def scopes(options: Namespace) -> Sequence[telling.Tellable]:
    """Find all that is named before anything is changed."""
    if options.circuit:
        return [find_circuit(name) for name in dict.fromkeys(options.circuit)]
    if options.resource:
        return [find_resource(key) for key in dict.fromkeys(options.resource)]
    return [find_job(name) for name in dict.fromkeys(options.job)]


def mute(options: Namespace, say: Say) -> Answer:
    now = clock.now()
    if options.until <= now:
        raise BadInput(f"--until {options.until.isoformat()} has passed; give a time to come")
    changed = sum(
        telling.mute(scope, by=operator(), reason=options.reason, until=options.until, now=now)
        for scope in scopes(options)
    )
    return Answer(data={"changed": changed}, text=f"Muted: {changed}")


def unmute(options: Namespace, say: Say) -> Answer:
    now = clock.now()
    changed = sum(telling.unmute(scope, by=operator(), now=now) for scope in scopes(options))
    return Answer(data={"changed": changed}, text=f"Unmuted: {changed}")


VERBS = (
    Verb("mute", "tell nobody for a while; everything runs as before", mute_arguments, mute),
    Verb("unmute", "tell again", scope_arguments, unmute),
)
