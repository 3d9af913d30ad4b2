"""Teams' own strategies while a job is fed: what one breaks, and how far that reaches."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.models import F, Func

from config.celery import app
from scheduling import feeding, runs
from scheduling.feeds import EXPRESS, OLDEST_SCHEDULED, STALEST, Express
from scheduling.models import Feeder, Run, Source
from scheduling.models.target import TargetQuerySet
from scheduling.runs import Lengths
from scheduling.strategies import Strategy
from tests.factories import NOW
from tests.integration.fed_jobs import fed_job, feed, let_out, pooled, waiting

pytestmark = pytest.mark.django_db(transaction=True)

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
FAR = datetime.max.replace(tzinfo=NOW.tzinfo)
needs_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="of PostgreSQL")


class Raises(Strategy):
    times = 0

    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        type(self).times += 1
        raise RuntimeError("no such plan")


class AsksForWhatIsNotThere(Strategy):
    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        return targets.annotate(plan=Func(F("key"), function="no_such_function")).filter(plan="a")


class TakesTooLong(Strategy):
    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(10)")
        return targets


class MeetsADeadlock(Strategy):
    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        raise OperationalError("deadlock detected") from psycopg.errors.DeadlockDetected()


class LosesItsConnection(Strategy):
    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return targets


class Watches(Strategy):
    seen: tuple[str, ...] = ()

    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('enable_sort'), current_setting('jit')")
            type(self).seen = cursor.fetchone()
        return targets


class WantsNothing(Strategy):
    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        return targets.none()


def named(strategy: type[Strategy]) -> str:
    return f"{__name__}:{strategy.__name__}"


WRONG = [
    pytest.param("tests.renamed:Strategy", id="renamed"),
    pytest.param(named(Raises), id="raises"),
    pytest.param(named(AsksForWhatIsNotThere), id="asks for what is not there"),
    pytest.param(named(TakesTooLong), id="takes too long", marks=needs_postgresql),
]


def test_a_strategy_that_wants_nothing_leaves_its_share_to_the_others() -> None:
    job = fed_job(shares={named(WantsNothing): 1.0, OLDEST_SCHEDULED: 1.0})
    pooled(job, 3)
    fed = feed(job)
    assert (dict(fed.picked), fed.failed) == ({OLDEST_SCHEDULED: 3}, {})


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_one_strategy_takes_nothing_from_the_others(name: str) -> None:
    job = fed_job(
        shares={name: 1.0, OLDEST_SCHEDULED: 1.0},
        express=Express(queue="first", limit=2),
        max_queue_length=10,
    )
    source = Source.objects.create(name="found", is_express=True, listing_ended_at=NOW)
    source.jobs.add(job)
    pooled(job, 2, source=source)
    pooled(job, 20)
    waiting(job, "asked for", priority=1)
    fed = feed(job)
    assert fed.released == 1
    assert fed.picked == {EXPRESS: 2, OLDEST_SCHEDULED: 9}
    assert name in fed.why
    assert len(let_out()) == 12
    feeder = Feeder.objects.get(job=job)
    assert name in feeder.last_round["why"]
    # The others have more, so the job is not left alone.
    assert feeder.next_at is None


@pytest.mark.parametrize("name", WRONG)
def test_a_job_with_nothing_but_a_wrong_strategy_is_asked_again_later(name: str) -> None:
    """Else it would fail at each tick, and with it all that a tick does after feeding."""
    wrong, right = fed_job("a", shares={name: 1.0}), fed_job("b")
    for job in (wrong, right):
        pooled(job, 1)
    assert feeding.feed_all(app, now=NOW, until=FAR) == 1
    assert Run.objects.get().job == right
    feeder = Feeder.objects.get(job=wrong)
    assert feeder.next_at is not None
    assert name in feeder.last_round["why"]


def test_a_strategy_that_failed_has_its_rest_and_is_named_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Raises, "times", 0)
    job = fed_job(shares={named(Raises): 1.0, OLDEST_SCHEDULED: 1.0}, max_queue_length=2)
    pooled(job, 12)
    for seconds, times in ((0, 1), (1, 1), (59, 1), (60, 2)):
        Run.objects.all().delete()
        fed = feed(job, now=NOW + seconds * SECOND)
        assert fed.picked == {OLDEST_SCHEDULED: 2}
        assert "no such plan" in fed.why
        assert Raises.times == times
    # Without it, nothing is wrong.
    job.feed = {**job.feed, "shares": {OLDEST_SCHEDULED: 1.0}}  # type: ignore[dict-item]
    job.save()
    Run.objects.all().delete()
    fed = feed(job, now=NOW + 61 * SECOND)
    assert (fed.why, fed.failed) == ("", {})


def test_who_was_not_the_first_is_fed_at_the_next_tick_and_the_others_at_this_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unlucky, other = fed_job("a", shares={named(MeetsADeadlock): 1.0}), fed_job("b")
    for job in (unlucky, other):
        pooled(job, 1)
    assert feeding.feed_all(app, now=NOW, until=FAR) == 1
    assert Run.objects.get().job == other
    assert "Job a is fed at the next tick: deadlock detected" in caplog.text
    assert Feeder.objects.get(job=unlucky).is_due(NOW)


@needs_postgresql
def test_that_the_database_is_away_is_for_the_tick_to_handle() -> None:
    job = fed_job(shares={named(LosesItsConnection): 1.0, STALEST: 1.0})
    pooled(job, 1)
    runs.jobs_to_feed(NOW)
    with pytest.raises(OperationalError):
        runs.feed(job, Lengths(), now=NOW)
    connection.close()
    with pytest.raises(OperationalError):
        feeding.feed_all(app, now=NOW, until=FAR)
    connection.close()
    assert Feeder.objects.get(job=job).is_due(NOW)


@needs_postgresql
@pytest.mark.parametrize("by", ["feeder", "hand"])
def test_a_claim_reads_by_index_whoever_makes_it(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watches, "seen", ())
    job = fed_job(shares={named(Watches): 1.0})
    pooled(job, 1)
    if by == "feeder":
        assert feed(job).picked.total() == 1
    else:
        assert len(runs.select(job, named(Watches), 1, now=NOW)) == 1
    assert Watches.seen == ("off", "off")
