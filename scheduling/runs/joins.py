"""Joins: followers that run once under a root run, when all the jobs they wait for have ended.

All is over when nothing under the root is open that could still lead to the follower: neither a
run of a job that is waited for, nor of one before it in the chain. Then, for each target of these
jobs, its last run under the root counts: each must have ended as its rule says. Runs that
`should_run` declined do not count; any other skip, and a stop by a person, is no such end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from scheduling.graphs import edges_of, reachable
from scheduling.models import FollowUp, FollowUpOn, Job, Reason, Run, State

# Ends by somebody's will lead to nothing.
BY_WILL = {Reason.CANCELLED, Reason.TERMINATED}
READ = ("job_id", "target_id", "state", "reason", "ended_at", "depth")

# The database walks from rule to rule: an end must not read what rules there are of other jobs, of
# which there may be thousands. Of each way it gives the steps, whose number is that of the rules.
STEPS = """
    WITH RECURSIVE step (here, there) AS (
        SELECT rule.{here}, rule.{there} FROM scheduling_followup rule
         WHERE rule.{here} IN ({places}) AND {there_is_active}
        UNION
        SELECT rule.{here}, rule.{there}
          FROM step JOIN scheduling_followup rule ON rule.{here} = step.there
         WHERE {there_is_active}
    )
    SELECT here, there FROM step
"""
# Not as a join: in tables that it has not analysed, PostgreSQL would read all jobs at each step.
ACTIVE = "(SELECT job.retired_at FROM scheduling_job job WHERE job.id = rule.{there}) IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """`members`: job -> its rule; `upstream`: the jobs whose runs may yet lead to the follower."""

    follower: Job
    members: Mapping[int, FollowUp]
    upstream: frozenset[int]


def obeys(run: Run, on: str) -> bool:
    """Whether a run has ended as a rule says."""
    if run.state == State.SUCCEEDED:
        return on != FollowUpOn.FAILURE
    return run.state == State.FAILED and run.reason not in BY_WILL and on != FollowUpOn.SUCCESS


def behind(job: Job) -> list[Join]:
    """The joins that an end of a run of `job` may complete."""
    if job.retired_at is not None:
        return []
    ahead = reachable(steps("job_id", "follower_id", [job.pk]), job.pk)
    rules = list(
        FollowUp.objects.filter(join=True, follower__in=ahead, job__retired_at=None)
        .select_related("job", "follower")
        .order_by("follower", "pk")
    )
    followers = {rule.follower_id: rule.follower for rule in rules}
    back = steps("follower_id", "job_id", followers)
    return [
        Join(
            follower=follower,
            members={rule.job_id: rule for rule in rules if rule.follower_id == pk},
            upstream=frozenset(reachable(back, pk)),
        )
        for pk, follower in followers.items()
    ]


def steps(here: str, there: str, starts: Collection[int]) -> dict[int, set[int]]:
    """Give the steps of all ways along rules from `starts`, each from the rule's column `here` to
    its column `there`, and to no job that is retired.
    """
    if not starts:
        return {}
    places = ", ".join(["%s"] * len(starts))
    active = ACTIVE.format(there=there)
    statement = STEPS.format(here=here, there=there, places=places, there_is_active=active)
    with connection.cursor() as cursor:
        cursor.execute(statement, list(starts))
        return edges_of(cursor.fetchall())


def lock_root(run: Run) -> Run:
    """Lock the first run of a chain, after the target: of two parents that end at once, the
    later one then sees the end of the other.
    """
    rows = Run.objects.select_for_update(no_key=True, of=("self",)).select_related("target")
    return rows.only("key", "target").get(pk=run.root_id or run.pk)


def complete(joins: list[Join], root: Run, run: Run) -> Iterator[tuple[Join, list[Run]]]:
    """Those whose time has come under the locked root, with the runs that led there, by end.

    Where it is among them, the run that ends now is the last, whatever other hosts' clocks say.
    """
    for join in joins:
        if Run.objects.open().filter(root=root, job__in=join.upstream).exists():
            continue
        if Run.objects.filter(root=root, job=join.follower, joined=True).exists():
            continue
        ended = ended_under(root.pk, join.members).only(*READ)
        last = {end.target_id: end for end in ended}
        ends = sorted(last.values(), key=lambda end: (end.pk == run.pk, end.ended_at))
        if {end.job_id for end in ends} != set(join.members):
            continue
        if all(end.job_id and obeys(end, join.members[end.job_id].on) for end in ends):
            yield join, ends


def ended_under(root_id: UUID, job_ids: Iterable[int]) -> QuerySet[Run]:
    """What the jobs did under a root, the root itself included, in the order of the ends."""
    chain = Run.objects.filter(Q(root=root_id) | Q(pk=root_id), job__in=job_ids)
    counted = chain.ended().exclude(reason=Reason.DECLINED)
    return counted.order_by("ended_at", "pk")
