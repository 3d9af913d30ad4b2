"""The chain on the page of a run: what led to it, what it led to, and what still waits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q
from django.utils.safestring import SafeString

from scheduling.admin import display
from scheduling.models import FollowUp, FollowUpOn, Run, State
from scheduling.models.run import OPEN_STATES
from scheduling.runs import joins

MOST_SHOWN = 200
SHOWN = (
    "name",
    "key",
    "state",
    "reason",
    "cause",
    "scheduled_at",
    "started_at",
    "ended_at",
    "created_at",
    "depth",
    "joined",
    "job_id",
    "parent_id",
    "root_id",
)
ON_WORDS = {
    FollowUpOn.SUCCESS: "if it succeeds",
    FollowUpOn.FAILURE: "if it fails",
    FollowUpOn.ANY: "when it ends",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One run. `next` are the rules that its end may fire."""

    link: SafeString
    state: SafeString
    at: SafeString
    is_here: bool
    is_joined: bool
    next: list[tuple[SafeString, str]]
    children: list[Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A follower that runs after all of several jobs, and has not run under this root."""

    link: SafeString
    is_over: bool  # nothing is left that could lead to it
    members: list[tuple[SafeString, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    tree: list[Node]
    awaited: list[Awaited]
    shown: int
    more: int


def chain_of(run: Run, now: datetime) -> Chain | None:
    """Everything under the first run of this one's chain; None if it stands alone.

    At most MOST_SHOWN runs, the oldest and those that led to this one; `more` counts the others.
    """
    root = run.root_id or run.pk
    everything = Run.objects.filter(Q(root=root) | Q(pk=root))
    oldest = everything.only(*SHOWN).order_by("depth", "created_at", "name", "key", "pk")
    shown = {each.pk: each for each in oldest[: MOST_SHOWN + 1]}
    more = 0
    if len(shown) > MOST_SHOWN:
        shown.popitem()
        more = everything.exclude(pk__in=_with_parents(run, shown)).count()
    rules = _rules_of(shown.values())
    awaited = _awaited(run, root)
    if len(shown) == 1 and not rules and not awaited:
        return None
    tree = _tree(shown, rules, run.pk, now)
    return Chain(tree=tree, awaited=awaited, shown=len(shown), more=more)


def _with_parents(run: Run, shown: dict[UUID, Run]) -> list[UUID]:
    """Add the run and what led to it to `shown`; give all that is there then."""
    missing: UUID | None = run.pk
    while missing is not None and missing not in shown:
        found = Run.objects.only(*SHOWN).filter(pk=missing).first()
        if found is None:
            break
        shown[found.pk] = found
        missing = found.parent_id
    return list(shown)


def _rules_of(shown: Iterable[Run]) -> dict[int, list[FollowUp]]:
    """job -> the plain rules that the end of its open run may fire."""
    jobs = {run.job_id for run in shown if run.state in OPEN_STATES}
    rules: dict[int, list[FollowUp]] = defaultdict(list)
    if jobs:
        plain = FollowUp.objects.filter(job__in=jobs, join=False, follower__retired_at=None)
        for rule in plain.select_related("follower").order_by("follower__name")[:MOST_SHOWN]:
            rules[rule.job_id].append(rule)
    return rules


def _tree(
    shown: dict[UUID, Run], rules: dict[int, list[FollowUp]], here: UUID, now: datetime
) -> list[Node]:
    """Nest the runs under their parents; one whose parent is gone stands on its own."""
    nodes: dict[UUID, Node] = {}
    for run in shown.values():
        coming = rules.get(run.job_id or 0, []) if run.state in OPEN_STATES else []
        nodes[run.pk] = Node(
            link=display.link(display.run_url(run), f"{run.name} {run.key}".rstrip()),
            state=display.state_badge(run),
            at=display.moment(run.ended_at or run.started_at or run.scheduled_at, now),
            is_here=run.pk == here,
            is_joined=run.joined,
            next=[
                (
                    display.link(display.job_url(rule.follower_id), rule.follower.name),
                    ON_WORDS[FollowUpOn(rule.on)],
                )
                for rule in coming
            ],
            children=[],
        )
    tops: list[Node] = []
    for run in shown.values():
        parent = nodes.get(run.parent_id) if run.parent_id is not None else None
        (tops if parent is None else parent.children).append(nodes[run.pk])
    return tops


def _awaited(run: Run, root: UUID) -> list[Awaited]:
    """The joins behind the first run's job that have not come under it."""
    first = run if run.pk == root else Run.objects.select_related("job").filter(pk=root).first()
    if first is None or first.job is None or first.state == State.SKIPPED:
        return []
    waiting = joins.behind(first.job)
    if not waiting:
        return []
    chain = Run.objects.filter(Q(root=root) | Q(pk=root))
    come = set(chain.filter(joined=True).values_list("job_id", flat=True).distinct())
    counted = chain.values("job_id", "state").annotate(number=Count("pk")).order_by()
    states: dict[int, Counter[str]] = defaultdict(Counter)
    for row in counted:
        states[row["job_id"]][row["state"]] = row["number"]
    return [
        Awaited(
            link=display.link(display.job_url(join.follower.pk), join.follower.name),
            is_over=not any(states[job][state] for job in join.upstream for state in OPEN_STATES),
            members=[
                (display.link(display.job_url(pk), rule.job.name), _counted(states[pk]))
                for pk, rule in sorted(join.members.items(), key=lambda each: each[1].job.name)
            ],
        )
        for join in waiting
        if join.follower.pk not in come
    ]


def _counted(states: Counter[str]) -> str:
    """'succeeded', '3 succeeded, 1 failed', 'not begun'."""
    if not states:
        return "not begun"
    if states.total() == 1:
        return str(State(next(iter(states))).label)
    order = [state for state in State if states[state]]
    return ", ".join(f"{states[state]} {state.label}" for state in order)
