"""Follow-up rules as the code declares them, beside those that admins have made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scheduling.graphs import edges_of, path_between, reachable
from scheduling.models import FollowUp, Job
from scheduling.models.job import DeclaredIn
from scheduling.registry import Declaration

Pair = tuple[str, str]  # names: the job, its follower
CODE = (DeclaredIn.COMMAND, DeclaredIn.FUNCTION, DeclaredIn.SETTINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the code says about a pair; not clear if it says both, alone and joined with others."""

    on: str
    join: bool
    is_clear: bool = True

    def beside(self, other: Wanted) -> Wanted:
        """Declared for both success and failure means for any end."""
        is_clear = self.is_clear and self.join == other.join
        on = self.on if self.on == other.on else "any"
        return Wanted(on=on, join=self.join, is_clear=is_clear)


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
    for (name, follower), want in sorted(wanted.items(), key=lambda item: item[0]):
        missing = next((each for each in (name, follower) if each not in jobs), None)
        if missing is not None:
            other = follower if missing == name else name
            problems.append(
                f"Job {other!r} is tied to {missing!r}, which is no job; correct the name"
            )
            continue
        if not want.is_clear:
            problems.append(
                f"Job {follower!r} follows {name!r} both alone and by after_all=; remove one"
            )
            continue
        known = present.get((name, follower))
        if known is not None:
            if known.declared and (known.on, known.join) != (want.on, want.join):
                FollowUp.objects.filter(pk=known.pk).update(on=want.on, join=want.join)
            continue
        if path := path_between(edges, follower, name):
            problems.append(cycle_error(name, path))
            continue
        FollowUp.objects.create(
            job=jobs[name],
            follower=jobs[follower],
            on=want.on,
            join=want.join,
            declared=True,
        )
        edges.setdefault(name, set()).add(follower)
    return [*problems, *vain_joins()]


def declared(declarations: Iterable[Declaration]) -> dict[Pair, Wanted]:
    """(job, follower) -> what the code says of it."""
    found: dict[Pair, Wanted] = {}
    for declaration in declarations:
        pairs = [((declaration.name, rule.follower), rule) for rule in declaration.follow_ups]
        # `after` is written at the follower and names the job it follows.
        pairs += [((rule.follower, declaration.name), rule) for rule in declaration.after]
        for pair, rule in pairs:
            want = Wanted(on=rule.on, join=rule.join)
            found[pair] = found[pair].beside(want) if pair in found else want
    return found


def vain_joins() -> Iterator[str]:
    """Say which followers wait for jobs whose runs never come from one and the same run."""
    active = FollowUp.objects.filter(job__retired_at=None, follower__retired_at=None)
    rules = list(active.values_list("job__name", "follower__name", "join"))
    leaders = edges_of((follower, name) for name, follower, _ in rules)
    joined = edges_of((follower, name) for name, follower, join in rules if join)
    for follower, names in sorted(joined.items()):
        if not set.intersection(*({name} | reachable(leaders, name) for name in names)):
            yield (
                f"Job {follower!r} waits for all of {', '.join(map(repr, sorted(names)))}, which "
                "no single run leads to, so that it never runs; let one of them follow the "
                "others, or all of them follow one job"
            )


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
