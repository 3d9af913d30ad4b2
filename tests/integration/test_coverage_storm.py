"""Whatever happens to targets, and whoever does it: the counts are what a count gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from scheduling import Named, clock, runs
from scheduling.cadence import Ended, Observation
from scheduling.coverage import coverage
from scheduling.models import Job, Reason, Source, State, Target
from scheduling.outcome import Outcome
from scheduling.runs import adding
from tests.integration.naming import lists, make_fed_job, make_source

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = [f"{number:02}" for number in range(25)]
DAY = timedelta(days=1)


class Storm:
    """Two fed jobs, two sources that name some of the same resources, and dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.jobs = [make_fed_job("check"), make_fed_job("visit", pause_after=2)]
        self.sources = [make_source("a", *self.jobs), make_source("b", self.jobs[0])]
        self.acts: list[Callable[[], object]] = [
            self.list,
            self.observe,
            self.run,
            self.hold,
            self.let_go,
            self.retire,
            self.revive,
            self.add,
            self.try_out,
            self.sum_up,
        ]

    def target(self) -> Target | None:
        targets: list[Target | None] = list(Target.objects.exclude(key="").order_by("pk"))
        return self.dice.choice([None, *targets])

    def job(self) -> Job:
        return self.dice.choice(self.jobs)

    def source(self) -> Source:
        source = self.dice.choice(self.sources)
        source.refresh_from_db()
        return source

    def list(self) -> None:
        named = [
            Named(
                key,
                enabled=self.dice.random() < 0.9,
                hint_at=clock.now() - self.dice.random() * 90 * DAY,
            )
            for key in self.dice.sample(KEYS, self.dice.randrange(10, 25))
        ]
        lists(self.source(), named, full=self.dice.random() < 0.7)

    def observe(self) -> None:
        results = [(self.dice.choice(KEYS), self.observation()) for _ in range(10)]
        runs.observe(self.job(), results, now=clock.now())

    def observation(self) -> Observation:
        ended = self.dice.choice(list(Ended))
        outcome = self.dice.choice([None, Outcome.CHANGED]) if ended == Ended.FOUND else None
        at = clock.now() - self.dice.random() * 60 * DAY
        return Observation(at=at, ended=ended, outcome=outcome)

    def run(self) -> None:
        target = self.target()
        if target is None or target.retired_at is not None:
            return
        run = runs.trigger(target.job, key=target.key, by="eve", now=clock.now())
        started = runs.start(run.pk, 1, worker="celery@here/1", now=clock.now())
        if started is None:
            return
        state = self.dice.choice([State.SUCCEEDED, State.FAILED])
        outcome = self.dice.choice(list(Outcome)) if state == State.SUCCEEDED else None
        reason = None if state == State.SUCCEEDED else Reason.ERROR
        result = runs.Result(state=state, reason=reason, outcome=outcome)
        runs.finish(run.pk, 1, token=started.token, result=result, now=clock.now())

    def hold(self) -> None:
        runs.pause(self.target() or self.job(), by="eve", reason="", now=clock.now())

    def let_go(self) -> None:
        runs.resume(self.target() or self.job(), by="eve", now=clock.now())

    def retire(self) -> None:
        if target := self.target():
            runs.retire_target(target, now=clock.now())

    def revive(self) -> None:
        if target := self.target():
            runs.revive_target(target, now=clock.now())

    def add(self) -> None:
        job = self.job()
        wanted = [adding.NewTarget(job=job.name, key=f"new {self.dice.randrange(9)}")]
        adding.add_targets(wanted, {job.name: job}, now=clock.now())
        runs.add_target(job, f"newer {self.dice.randrange(9)}", now=clock.now())

    def try_out(self) -> None:
        is_trial = self.dice.random() < 0.5
        runs.set_trial(self.source(), is_trial=is_trial, by="eve", now=clock.now())

    def sum_up(self) -> None:
        runs.sum_up_coverage(limit=self.dice.randrange(1, 200))


@pytest.mark.parametrize("seed", range(3))
def test_after_listings_results_runs_and_operators_a_recount_finds_nothing_wrong(
    seed: int,
) -> None:
    storm = Storm(seed)
    storm.list()
    for _ in range(60):
        storm.dice.choice(storm.acts)()
    assert runs.recount_coverage() == []
    counted = {each.job: each for each in coverage(now=clock.now())}
    assert {name: each.known for name, each in counted.items()} == {
        job.name: Target.objects.filter(job=job, retired_at=None).exclude(key="").count()
        for job in storm.jobs
    }
    assert sum(each.missed + each.paused for each in counted.values()) > 0


def test_a_target_that_pauses_itself_is_counted_as_paused() -> None:
    job = make_fed_job("check")
    target = runs.add_target(job, "a", now=clock.now())
    for _ in range(3):
        run = runs.trigger(job, key=target.key, by="eve", now=clock.now())
        started = runs.start(run.pk, 1, worker="celery@here/1", now=clock.now())
        assert started is not None
        result = runs.Result(state=State.FAILED, reason=Reason.ERROR)
        runs.finish(run.pk, 1, token=started.token, result=result, now=clock.now())
    (found,) = coverage(now=clock.now())
    assert (found.active, found.paused, found.missed) == (0, 1, 0)
    assert runs.recount_coverage() == []
