"""Follow-up rules as the code declares them, beside those that admins have made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduling.models import FollowUp, Job
from scheduling.models.job import DeclaredIn
from scheduling.registry import Declaration

Pair = tuple[str, str]  # names: the job, its follower
CODE = (DeclaredIn.COMMAND, DeclaredIn.FUNCTION, DeclaredIn.SETTINGS)


def sync_rules(declarations: Iterable[Declaration]) -> list[str]:
    """Make the declared rules of the declared jobs; give what cannot be made, as problems.

    A rule that an admin has made between the same two jobs stays as the admin made it.
    """
    problems: list[str] = []
    wanted = declared(declarations)
    jobs = {job.name: job for job in Job.objects.active()}
    present = {
        (rule.job.name, rule.follower.name): rule
        for rule in FollowUp.objects.select_related("job", "follower")
    }
    for pair, rule in list(present.items()):
        if rule.declared and pair not in wanted and rule.job.declared_in in CODE:
            rule.delete()
            del present[pair]
    edges = edges_of(present)
    for (name, follower), on in sorted(wanted.items()):
        missing = next((each for each in (name, follower) if each not in jobs), None)
        if missing is not None:
            other = follower if missing == name else name
            problems.append(
                f"Job {other!r} is tied to {missing!r}, which is no job; correct the name"
            )
            continue
        known = present.get((name, follower))
        if known is not None:
            if known.declared and known.on != on:
                FollowUp.objects.filter(pk=known.pk).update(on=on)
            continue
        if path := path_between(edges, follower, name):
            problems.append(cycle_error(name, path))
            continue
        FollowUp.objects.create(job=jobs[name], follower=jobs[follower], on=on, declared=True)
        edges.setdefault(name, set()).add(follower)
    return problems


def declared(declarations: Iterable[Declaration]) -> dict[Pair, str]:
    """(job, follower) -> on. Declared for both success and failure means for any end."""
    found: dict[Pair, str] = {}
    for declaration in declarations:
        pairs = [((declaration.name, rule.follower), rule.on) for rule in declaration.follow_ups]
        # `after` is written at the follower and names the job it follows.
        pairs += [((rule.follower, declaration.name), rule.on) for rule in declaration.after]
        for pair, on in pairs:
            found[pair] = on if found.get(pair, on) == on else "any"
    return found


def edges_of(pairs: Iterable[Pair]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for name, follower in pairs:
        edges.setdefault(name, set()).add(follower)
    return edges


def path_between(edges: Mapping[str, set[str]], start: str, end: str) -> list[str]:
    """Give the names on a way from `start` to `end`, both included; empty if there is none."""
    came_from: dict[str, str | None] = {start: None}
    waiting = [start]
    while waiting:
        name = waiting.pop(0)
        if name == end:
            path = []
            step: str | None = name
            while step is not None:
                path.append(step)
                step = came_from[step]
            return path[::-1]
        for follower in sorted(edges.get(name, ())):
            if follower not in came_from:
                came_from[follower] = name
                waiting.append(follower)
    return []


def cycle_through(job: Job, followers: Iterable[str]) -> str | None:
    """Say why `job` cannot have these followers (names): one of them leads back to it."""
    others = FollowUp.objects.exclude(job=job).select_related("job", "follower")
    edges = edges_of((rule.job.name, rule.follower.name) for rule in others)
    for follower in followers:
        if path := path_between(edges, follower, job.name):
            return cycle_error(job.name, path)
    return None


def cycle_error(name: str, path: list[str]) -> str:
    way = " -> ".join([name, *path])
    return f"Job {name!r} would follow itself: {way}; remove one of these follow-ups"
