"""What the results of runs, and results from elsewhere, make of their targets."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings

from scheduling import Outcome, runs
from scheduling.cadence import Ended, Observation
from scheduling.feeds import Cooldowns, Feed
from scheduling.models import (
    Cause,
    CoverageChange,
    Event,
    Feeder,
    Job,
    Notification,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.runs import ends, observing
from scheduling.runs.cursors import lock_target
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.rivals import in_thread

pytestmark = pytest.mark.django_db

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BROKEN = runs.Result(state=State.FAILED, reason=Reason.ERROR)
LOST = "lost"
FEED = Feed(cooldowns=Cooldowns(absolute=None, failed=14 * DAY, missing=31 * DAY)).as_json()


def found(fingerprint: str = "", **more: object) -> runs.Result:
    return runs.Result(state=State.SUCCEEDED, fingerprint=fingerprint, **more)  # type: ignore[arg-type]


MISSING = found(outcome=Outcome.MISSING)


def end(target: Target, result: runs.Result, at: datetime = NOW, **fields: object) -> Run:
    run = make_run(target, **fields)
    begun = runs.start(run.pk, 1, worker="w", now=at)
    assert begun is not None
    assert runs.finish(run.pk, 1, token=begun.token, result=result, now=at)
    target.refresh_from_db()
    return Run.objects.get(pk=run.pk)


def seen(key: str, at: int, ended: Ended = Ended.FOUND, **more: object) -> tuple[str, Observation]:
    return key, Observation(at=NOW + at * HOUR, ended=ended, **more)  # type: ignore[arg-type]


def observed(job: Job, *results: tuple[str, Observation]) -> tuple[int, int, int]:
    came_of = runs.observe(job, results, now=NOW + 100 * HOUR)
    return came_of.folded, came_of.ignored, came_of.unknown


class TestARunThatEnds:
    def test_a_fingerprint_says_the_outcome_of_the_run(self) -> None:
        target = make_target()
        outcomes = [
            end(target, found(each), NOW + n * HOUR).outcome for n, each in enumerate("aab")
        ]
        assert outcomes == ["changed", "unchanged", "changed"]
        assert (target.fingerprint, target.streak, target.level) == ("b", 3, 3)
        assert target.observed_at == target.found_at == NOW + 2 * HOUR
        assert target.ok_since == NOW

    def test_missing_is_a_miss_and_no_find(self) -> None:
        target = make_target()
        end(target, found("a"))
        end(target, MISSING, NOW + HOUR)
        assert (target.found_at, target.observed_at) == (NOW, NOW + HOUR)
        assert (target.last_state, target.last_outcome) == (State.SUCCEEDED, "missing")
        assert (target.misses, target.ok_since, target.fingerprint) == (1, None, "a")

    def test_b13_lost_counts_as_failed(self) -> None:
        target = make_target()
        run = make_run(target)
        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
        assert runs.lose(run.pk, 1, detail="gone", now=NOW + HOUR)
        target.refresh_from_db()
        assert (target.misses, target.last_state) == (1, State.FAILED)
        assert target.observed_at == NOW + HOUR

    def test_who_was_stopped_was_not_observed(self) -> None:
        target = make_target()
        run = make_run(target)
        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
        assert ends.break_off(run.pk, 1, why="", now=NOW)
        target.refresh_from_db()
        assert (target.observed_at, target.misses) == (None, 0)

    def test_a_day_that_is_run_again_was_not_observed(self) -> None:
        target = make_target()
        run = end(target, found("a"), cause=Cause.BACKFILL)
        assert (target.observed_at, target.fingerprint, run.outcome) == (None, "", "")

    def test_an_attempt_that_is_retried_is_no_result_yet(self) -> None:
        target = make_target(make_job(retries=1))
        end(target, BROKEN)
        assert (target.observed_at, target.misses) == (None, 0)

    def test_the_late_result_of_an_ended_run_is_refused_and_folds_nothing(self) -> None:
        target = make_target()
        run = end(target, found("a"))
        late = runs.finish(run.pk, 1, token=None, result=found("b"), now=NOW + HOUR)
        target.refresh_from_db()
        assert (late, target.fingerprint, target.streak) == (False, "a", 1)

    def test_two_ends_at_one_moment_both_count(self) -> None:
        target = make_target()
        end(target, BROKEN)
        end(target, BROKEN)
        assert (target.misses, target.streak) == (2, 2)

    def test_staleness_is_what_the_hint_is_ahead_of_the_newest_find(self) -> None:
        target = make_target(hint_at=NOW + DAY)
        end(target, found("a"))
        assert target.staleness == DAY
        end(target, found("b"), NOW + 2 * DAY)
        assert target.staleness is None

    def test_a_fed_target_without_a_place_starts_from_the_clock_of_its_feeder(self) -> None:
        job = make_job(feed=FEED)
        Feeder.objects.create(job=job, position=10**6)
        target = make_target(job, "a")
        end(target, found("x"))
        assert target.position is not None
        assert abs(target.position - 10**6 - 2 * 86_400) <= 0.1 * 2 * 86_400


class TestAFedTarget:
    @pytest.mark.parametrize(("result", "cooldown"), [(BROKEN, 14 * DAY), (MISSING, 31 * DAY)])
    def test_it_cools_down_after_a_miss(self, result: runs.Result, cooldown: timedelta) -> None:
        target = make_target(make_job(feed=FEED), "a", last_scheduled_at=NOW - HOUR)
        end(target, result)
        assert (target.eligible_at, target.eligible_since) == (NOW + cooldown, None)

    def test_after_a_find_it_is_in_the_pool_at_once(self) -> None:
        target = make_target(make_job(feed=FEED), "a", last_scheduled_at=NOW - HOUR)
        end(target, found("a"))
        assert (target.eligible_at, target.eligible_since) == (None, NOW)

    def test_retry_after_keeps_it_out_of_the_pool(self) -> None:
        target = make_target(make_job(feed=FEED), "a", last_scheduled_at=NOW - HOUR)
        end(target, found("a", next_after=3 * DAY))
        assert (target.eligible_at, target.eligible_since) == (NOW + 3 * DAY, None)

    def test_an_adaptive_schedule_keeps_it_out_of_the_pool(self) -> None:
        job = make_job(feed=FEED, schedule="adaptive 8d between 1d and 64d factor 2")
        target = make_target(job, "a", last_scheduled_at=NOW - HOUR)
        end(target, found(outcome=Outcome.UNCHANGED))
        assert (target.eligible_at, target.next_fire_at) == (NOW + 16 * DAY, None)

    def test_a_skipped_run_gives_it_back(self) -> None:
        away = NOW + 5 * DAY
        target = make_target(make_job(feed=FEED), "a", eligible_at=away)
        run = make_run(target)
        runs.cancel(run.pk, by="ann", now=NOW)
        target.refresh_from_db()
        assert (target.eligible_at, target.eligible_since) == (None, NOW)


class TestChances:
    def test_failures_and_missing_count_together_and_pause_that_target_alone(self) -> None:
        job = make_job(feed=FEED, notify_still_failing=True)
        bad, good = make_target(job, "bad"), make_target(job, "good")
        for n, result in enumerate((BROKEN, MISSING)):
            end(bad, result, NOW + n * HOUR)
            assert bad.paused_at is None
        end(bad, BROKEN, NOW + 2 * HOUR)
        good.refresh_from_db()
        assert (bad.paused_at, bad.paused_by) == (NOW + 2 * HOUR, "Beatkeeper")
        assert bad.pause_reason == (
            "3 results in a row did not find it, some failed and some were 'missing'"
        )
        assert (bad.eligible_at, bad.eligible_since) == (None, None)
        assert good.paused_at is None
        assert Notification.objects.filter(event=Event.PAUSED).count() == 1

    def test_three_times_missing_says_so(self) -> None:
        target = make_target(make_job(feed=FEED), "a")
        for n in range(3):
            end(target, MISSING, NOW + n * HOUR)
        assert target.pause_reason == "3 times 'missing' in a row"

    @override_settings(JOBS_PAUSE_AFTER=2)
    def test_the_setting_is_for_fed_jobs_that_say_nothing_themselves(self) -> None:
        fed = make_target(make_job(feed=FEED), "a")
        own = make_target(make_job(feed=FEED, pause_after=3), "a")
        never = make_target(make_job(feed=FEED, pause_after=0), "a")
        plain = make_target(make_job(), "a")
        for target in (fed, own, never, plain):
            end(target, MISSING)
            end(target, MISSING, NOW + HOUR)
        paused = [target.paused_at is not None for target in (fed, own, never, plain)]
        assert paused == [True, False, False, False]

    def test_b59_a_resumed_target_has_all_its_chances_again(self) -> None:
        target = make_target(make_job(feed=FEED), "a")
        for n in range(3):
            end(target, MISSING, NOW + n * HOUR)
        runs.resume(target, by="ann", now=NOW + 3 * HOUR)
        target.refresh_from_db()
        assert (target.misses, target.streak) == (0, 0)
        for n in range(4, 6):
            end(target, MISSING, NOW + n * HOUR)
            assert target.paused_at is None
        end(target, MISSING, NOW + 6 * HOUR)
        assert target.paused_at is not None

    def test_new_chances_are_set_on_the_instance(self) -> None:
        target = make_target(misses=3, streak=3, failures_in_a_row=2)
        observing.new_chances(target)
        target.save(update_fields=observing.CHANCE_FIELDS)
        target.refresh_from_db()
        assert (target.misses, target.streak, target.failures_in_a_row) == (0, 0, 0)


class TestResultsFromElsewhere:
    def test_each_is_folded_into_its_target(self) -> None:
        job = make_job()
        one, two = make_target(job, "one"), make_target(job, "two")
        assert observed(
            job,
            seen("one", 1, fingerprint="a"),
            seen("two", 2, Ended.MISSING),
            seen("one", 3, fingerprint="b"),
            seen("three", 1),
        ) == (3, 0, 1)
        one.refresh_from_db()
        two.refresh_from_db()
        assert (one.fingerprint, one.last_outcome, one.level) == ("b", "changed", 2)
        assert (one.last_state, one.streak) == (State.SUCCEEDED, 2)
        assert (two.last_outcome, two.misses, two.found_at) == ("missing", 1, None)

    def test_b54_repeated_and_older_results_are_ignored(self) -> None:
        job = make_job()
        target = make_target(job, "a")
        result = seen("a", 2, Ended.FAILED)
        assert observed(job, result, result) == (1, 1, 0)
        assert observed(job, result, seen("a", 1, Ended.FAILED)) == (0, 2, 0)
        target.refresh_from_db()
        assert (target.misses, target.streak, target.observed_at) == (1, 1, NOW + 2 * HOUR)

    def test_what_is_seen_of_a_paused_target_does_not_resume_it(self) -> None:
        job = make_job()
        target = make_target(job, "a")
        runs.pause(target, by="ann", reason="gone for good", now=NOW)
        observed(job, seen("a", 1))
        target.refresh_from_db()
        assert (target.paused_by, target.observed_at) == ("ann", NOW + HOUR)

    def test_one_from_the_future_does_not_keep_the_others_from_counting(self) -> None:
        job = make_job()
        make_target(job, "a")
        assert observed(job, seen("a", 101), seen("a", 1)) == (1, 1, 0)

    def test_b51_three_successes_without_fingerprint_pause_the_target(self) -> None:
        job = make_job(feed=FEED)
        target, other = make_target(job, "a"), make_target(job, "b")
        results = [(key, Observation.of("", at=NOW + n * HOUR)) for n in range(3) for key in "ab"]
        assert observed(job, *results) == (6, 0, 0)
        for each in (target, other):
            each.refresh_from_db()
            assert (each.level, each.streak, each.pause_reason) == (6, 3, "3 failures in a row")
            assert (each.eligible_at, each.eligible_since) == (None, None)
        [told] = Notification.objects.filter(event=Event.PAUSED)
        assert "and 1 others like it" in told.detail

    def test_a_fed_target_cools_down_by_them(self) -> None:
        job = make_job(feed=FEED)
        target = make_target(job, "a", eligible_since=NOW)
        observed(job, seen("a", 99, Ended.FAILED))
        target.refresh_from_db()
        assert (target.eligible_at, target.eligible_since) == (NOW + 99 * HOUR + 14 * DAY, None)

    def test_what_waits_in_the_pool_keeps_its_place_in_line(self) -> None:
        job = make_job(feed=FEED)
        target = make_target(job, "a", eligible_since=NOW)
        observed(job, seen("a", 50))
        target.refresh_from_db()
        assert target.eligible_since == NOW

    def test_an_adaptive_cursor_moves_with_the_newest_of_them(self) -> None:
        job = make_job(schedule="adaptive 8d between 1d and 64d factor 2")
        target = make_target(job, "a", next_fire_at=NOW + DAY)
        observed(job, seen("a", 2, outcome=Outcome.UNCHANGED))
        target.refresh_from_db()
        assert target.next_fire_at == NOW + 2 * HOUR + 16 * DAY

    def test_they_are_counted_for_coverage(self) -> None:
        job = make_job()
        make_target(job, "a")
        observed(job, seen("a", 1))
        noted = dict(CoverageChange.objects.values_list("measure", "delta"))
        assert noted["never_checked"] == -1

    def test_more_than_one_batch_is_folded_whole(self) -> None:
        job = make_job()
        Target.objects.bulk_create([Target(job=job, key=str(n)) for n in range(1001)])
        assert observed(job, *(seen(str(n), 1) for n in range(1001))) == (1001, 0, 0)
        assert Target.objects.filter(found_at=NOW + HOUR, misses=0).count() == 1001


@pytest.mark.django_db(transaction=True)
def test_b60_a_claim_during_a_fold_keeps_its_mark() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one lock")
    target = make_target(make_job(), "a")
    errors: list[Exception] = []
    with transaction.atomic():
        # As a claim does; the fold comes in the middle.
        lock_target(target.pk)
        Target.objects.filter(pk=target.pk).update(last_scheduled_at=NOW)
        results = [seen("a", 1)]
        folding = in_thread(lambda: runs.observe(target.job, results, now=NOW + DAY), errors)
        folding.join(0.5)
        assert folding.is_alive()
    folding.join(10)
    target.refresh_from_db()
    assert errors == []
    assert (target.last_scheduled_at, target.observed_at) == (NOW, NOW + HOUR)
