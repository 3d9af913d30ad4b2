"""The simulator: it decides by the real rules, counts everything once, and repeats itself."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.feeds import BUILT_IN, EXPRESS, OLDEST_SCHEDULED, SHARES, Cooldowns, Express, Feed
from scheduling.schedule_unanchored import Adaptive
from scheduling.selection import Candidate, eligible_from, order_of
from scheduling.simulation import (
    MIX,
    InvalidScenario,
    Scenario,
    Synthetic,
    Thing,
    alone,
    compare,
    each_alone,
    simulate,
)
from scheduling.simulation.engine import Simulation
from scheduling.simulation.fleet import Fleet
from scheduling.simulation.lanes import Lane
from scheduling.simulation.measures import Spans
from scheduling.simulation.pool import Pool
from scheduling.simulation.scenario import with_workers
from scheduling.simulation.tracked import Tracked, moment

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400.0
MONTH = timedelta(days=30)
SMALL = Scenario(workers=2, span=MONTH, samples=10)
FEW = Synthetic(things=100, per_hour=0.1)


class Recorded(Simulation):
    """Writes down every pick and every end."""

    def __init__(self, scenario: Scenario, things: Sequence[Thing]) -> None:
        super().__init__(scenario, things)
        self.picked: list[tuple[int, datetime, datetime | None]] = []
        self.over: list[tuple[int, datetime]] = []

    def queue(self, one: Tracked, lane: Lane, now: float, at: datetime) -> None:
        standing = one.standing
        until = eligible_from(
            self.cooldowns,
            scheduled_at=one.last_scheduled_at,
            observed_at=standing.observed_at,
            ended=standing.last_ended,
        )
        self.picked.append((one.id, at, until))
        super().queue(one, lane, now, at)

    def finish(self, end: float, serial: int, one: Tracked, *rest: Any) -> None:
        self.over.append((one.id, moment(end)))
        super().finish(end, serial, one, *rest)


def recorded(scenario: Scenario, made_up: Synthetic = FEW) -> Recorded:
    done = Recorded(scenario, made_up.make(seed=scenario.seed, span=scenario.span))
    done.run()
    return done


def steady(change_every: float, key: str = "a", **facts: Any) -> Thing:
    return Thing(key=key, change_every=change_every, phase=-change_every / 3, **facts)


# --- the whole ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_and_another_one_does_not() -> None:
    first, second, other = (
        simulate(scenario, FEW.make(seed=scenario.seed, span=scenario.span)).as_json()
        for scenario in (SMALL, SMALL, replace(SMALL, seed=2))
    )
    assert first == second
    assert first["checks"] > 0
    assert first["series"] != other["series"]


def test_processes_give_what_one_process_gives_in_the_order_asked_for() -> None:
    week = replace(SMALL, span=timedelta(days=7))
    scenarios = with_workers([alone(MIX, week), alone(OLDEST_SCHEDULED, week)], [1, 2])
    here = [each.as_json() for each in compare(scenarios, FEW, processes=1)]
    there = [each.as_json() for each in compare(scenarios, FEW, processes=2)]
    assert here == there
    assert [(each["name"], each["workers"]) for each in here] == [
        ("mix, 1 workers", 1),
        ("mix, 2 workers", 2),
        ("oldest_scheduled, 1 workers", 1),
        ("oldest_scheduled, 2 workers", 2),
    ]


@pytest.mark.parametrize("scenario", [*each_alone(SMALL)], ids=lambda one: one.name)
def test_each_pick_ends_once_and_everything_is_counted(scenario: Scenario) -> None:
    done = recorded(scenario)
    result = done.watch.result(done.listed, done.lanes, open=len(done.open))
    open_now = Counter(one[2].id for one in done.open)
    picked = Counter(number for number, *_ in done.picked)
    assert picked == Counter(number for number, _ in done.over) + open_now
    assert set(open_now.values()) <= {1}
    assert sum(result.picks.values()) == len(done.picked) == result.checks + result.open
    assert result.checks == result.changed + result.unchanged + result.failed + result.missing
    assert result.checks == sum(each.checks for each in result.series)
    last = result.last
    assert last.known == last.checked + last.never == len(done.listed)
    assert last.checked == last.fresh + last.stale
    assert 0 <= result.utilisation <= 1


@pytest.mark.parametrize(
    "cooldowns",
    [
        Cooldowns(),
        Cooldowns(absolute=timedelta(minutes=1), failed=timedelta(hours=1), missing=None),
        Cooldowns(absolute=None, in_flight=None, failed=None, missing=timedelta(days=2)),
    ],
)
def test_nobody_is_picked_while_cooling_not_even_at_its_last_moment(cooldowns: Cooldowns) -> None:
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0}, cooldowns=cooldowns)
    scenario = replace(SMALL, feed=feed, failures=0.3, span=timedelta(days=4))
    done = recorded(scenario, replace(FEW, things=50, missing=0.5))
    assert any(until is not None for _, _, until in done.picked)
    assert [pick for pick in done.picked if pick[2] is not None and not pick[2] < pick[1]] == []


def test_nobody_is_picked_while_a_run_of_it_is_open() -> None:
    done = recorded(replace(SMALL, run_time=timedelta(hours=1)))
    open_now: set[int] = set()
    events = [(at, 1, number) for number, at, _ in done.picked]
    for _, picked, number in sorted(events + [(at, 0, number) for number, at in done.over]):
        assert (number in open_now) != bool(picked)
        open_now ^= {number}


def test_a_strategy_without_weight_is_never_asked() -> None:
    shares = {**SHARES, OLDEST_SCHEDULED: 0.0}
    result = simulate(replace(SMALL, feed=Feed(shares=shares)), FEW.make(seed=1, span=SMALL.span))
    assert set(result.picks) == set(SHARES)
    assert all(result.picks.values())


def test_shares_divide_what_there_is_to_pick() -> None:
    """So many never found, with hints and without, that both strategies always have more."""
    things = [Thing(key=str(n), change_every=inf, hinted=n % 2 == 0) for n in range(4000)]
    feed = Feed(shares={"never_checked": 3.0, "without_hint": 1.0}, max_queue_length=10)
    scenario = replace(
        SMALL, feed=feed, span=timedelta(hours=1), run_time=timedelta(seconds=5), failures=0
    )
    picks = simulate(scenario, things).picks
    assert picks["never_checked"] == pytest.approx(3 * picks["without_hint"], abs=4)


@pytest.mark.parametrize("name", [MIX, OLDEST_SCHEDULED, "until_success"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fleet_twice_as_large_never_covers_less(name: str, seed: int) -> None:
    base = replace(alone(name, SMALL), seed=seed, run_time=timedelta(minutes=30))
    things = FEW.make(seed=seed, span=base.span)
    covered = [simulate(each, things).checked for each in with_workers([base], [1, 2, 4, 8])]
    assert covered == sorted(covered)
    assert covered[0] < covered[-1]


# --- what happens to one thing --------------------------------------------------------------------


def level_of(thing: Thing) -> int:
    """Where the ladder ends for it, when the ladder itself says when it is looked at."""
    scenario = Scenario(
        feed=Feed(shares={}), adaptive=Adaptive(), failures=0, span=timedelta(days=3650), samples=1
    )
    (level,) = (n for n, count in enumerate(simulate(scenario, [thing]).levels) if count)
    return level


def test_what_changes_daily_settles_low_and_what_never_changes_at_the_top() -> None:
    assert level_of(steady(DAY)) <= 2
    assert level_of(Thing(key="a", change_every=inf)) == 10
    assert 2 < level_of(steady(40 * DAY)) < 10


@pytest.mark.parametrize(
    ("change_every", "checks"),
    [(60.0, 24 * 30), (inf, 8)],
    ids=["always changed: the shortest interval", "never: the longest"],
)
def test_an_adaptive_schedule_alone_says_when_each_is_due(change_every: float, checks: int) -> None:
    day, hour = timedelta(days=1), timedelta(hours=1)
    scenario = replace(
        SMALL, feed=Feed(shares={}), adaptive=Adaptive(day, between=(hour, 7 * day)), failures=0
    )
    result = simulate(scenario, [steady(change_every)])
    assert result.checks == pytest.approx(checks, rel=0.2)


def test_a_schedule_is_a_further_least_distance_of_what_is_picked() -> None:
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0})
    often = replace(SMALL, feed=feed, failures=0)
    seldom = replace(often, adaptive=Adaptive("3d", between=("3d", "3d")))
    assert [simulate(each, [steady(60.0)]).checks for each in (often, seldom)] == [60, 10]


def test_what_is_gone_is_paused_after_so_many_misses_and_stays_so() -> None:
    cooldowns = Cooldowns(absolute=timedelta(hours=1), failed=None, missing=None)
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0}, cooldowns=cooldowns)
    scenario = replace(SMALL, feed=feed, failures=0, pause_after=3)
    result = simulate(scenario, [steady(DAY, gone_at=10 * DAY)])
    assert (result.missing, result.last.paused) == (3, 1)


def test_what_only_fails_has_new_chances_whenever_it_is_listed() -> None:
    cooldowns = Cooldowns(absolute=timedelta(hours=1), failed=None, missing=None)
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0}, cooldowns=cooldowns)
    scenario = replace(SMALL, feed=feed, failures=1, pause_after=3)
    result = simulate(scenario, [steady(DAY)])
    assert result.failed == 3 * 30


def test_a_check_that_takes_too_long_fails() -> None:
    scenario = replace(SMALL, failures=0, run_time_limit=timedelta(minutes=1))
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0})
    # In the 12 hours of the cooldown there are 43,200 changes, and a second has time for ten.
    result = simulate(replace(scenario, feed=feed), [steady(1.0), steady(DAY, key="b")])
    assert 0 < result.over_limit == result.failed


def test_lag_is_counted_from_the_change_and_waste_where_there_was_none() -> None:
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0})
    result = simulate(replace(SMALL, feed=feed, failures=0), [steady(10 * DAY)])
    assert result.changed == 1 + 3
    assert result.waste == result.unchanged / result.checks > 0.9
    assert result.lag.p99 is not None
    assert result.lag.p99 < 12.1 * 3600


def test_only_hinted_changes_make_the_stalest_strategy_look_again() -> None:
    feed = Feed(shares={"stalest": 1.0, "until_success": 1.0})
    scenario = replace(SMALL, feed=feed, failures=0)
    hinted, unhinted = (
        simulate(scenario, [steady(5 * DAY, hinted=hinted)]) for hinted in (True, False)
    )
    assert (hinted.changed, hinted.unchanged) == (7, 0)
    assert (unhinted.changed, unhinted.unchanged) == (1, 0)


def test_what_is_new_goes_through_the_express_lane_which_has_its_own_workers() -> None:
    things = [steady(DAY, key=str(n), appears_at=n * 600.0) for n in range(400)]
    slow = replace(SMALL, run_time=timedelta(hours=1), failures=0)
    feed = Feed(shares={OLDEST_SCHEDULED: 1.0}, express=Express(queue="fast", limit=1000))
    with_lane = simulate(replace(slow, feed=feed, express_workers=40), things)
    without = simulate(replace(slow, feed=replace(feed, express=None)), things)
    assert with_lane.picks[EXPRESS] == 400
    assert with_lane.first_check.p99 is not None
    assert without.first_check.p99 is not None
    assert with_lane.first_check.p99 < without.first_check.p99


# --- the parts ------------------------------------------------------------------------------------

TIMES = st.none() | st.integers(0, 6).map(lambda n: moment(n * 3600.0))


def change(data: st.DataObject, one: Tracked) -> None:
    one.last_scheduled_at, one.hint_at, found_at, ok_since = (data.draw(TIMES) for _ in range(4))
    position = data.draw(st.none() | st.integers(0, 3))
    one.learn(replace(one.standing, found_at=found_at, ok_since=ok_since, position=position))


def as_candidate(one: Tracked) -> Candidate:
    return Candidate(**{name: getattr(one, name) for name in Candidate.__dataclass_fields__})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_pool_picks_in_the_pure_order_whatever_was_changed_on_the_way(
    data: st.DataObject,
) -> None:
    names = [name for name in BUILT_IN if name != EXPRESS]
    number = data.draw(st.integers(0, 12))
    pool = Pool(names)
    there = dict.fromkeys(Tracked(steady(DAY), id=n, listed_at=0.0) for n in range(number))
    for one in there:
        change(data, one)
        pool.put(one)
    while there:
        for one in data.draw(st.lists(st.sampled_from(list(there)), max_size=4)):
            change(data, one)
            pool.put(one)
        name, count = data.draw(st.sampled_from(names)), data.draw(st.integers(1, 3))
        keyed = [(order_of(name)(as_candidate(one)), one) for one in there]
        wanted = sorted((key, one.id) for key, one in keyed if key is not None)
        picked = pool.pick(name, count)
        assert [one.id for one in picked] == [number for _, number in wanted[:count]]
        for one in picked:
            del there[one]
        assert len(pool) == len(there)
        if not picked:
            break


def test_workers_take_what_has_waited_longest() -> None:
    fleet = Fleet(2)
    runs = [fleet.run(at, lambda start: 10.0) for at in (0.0, 0.0, 1.0, 2.0, 50.0)]
    assert runs == [(0, 10), (0, 10), (10, 20), (10, 20), (50, 60)]
    assert fleet.given == 50


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0.01, 1))
def test_quantiles_are_right_to_two_percent(values: list[float], part: float) -> None:
    spans = Spans()
    for value in values:
        spans.add(value)
    wanted = sorted(values)[max(0, -int(-part * len(values) // 1) - 1)]
    assert spans.quantile(part) == pytest.approx(wanted, rel=0.025, abs=0.025)


def test_made_up_things_follow_the_numbers_that_were_given() -> None:
    made = Synthetic(things=4000, per_hour=1.0, hinted=0.25, missing=0.1)
    things = made.make(seed=7, span=MONTH)
    assert len(things) == 4000 + 24 * 30
    assert [one.appears_at for one in things] == sorted(one.appears_at for one in things)
    assert sum(one.hinted for one in things) / len(things) == pytest.approx(0.25, abs=0.03)
    assert sum(one.gone_at < inf for one in things) / len(things) == pytest.approx(0.1, abs=0.02)
    # Log-uniform from a second to ten years: as many below an hour as between, e to e.
    below_an_hour = sum(one.change_every < 3600 for one in things) / len(things)
    assert below_an_hour == pytest.approx(8.19 / 19.57, abs=0.03)
    more = Synthetic(things=5000, per_hour=0).make(seed=7, span=MONTH)
    assert more[17].change_every == things[17].change_every


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"span": timedelta(0)}, "span is 0:00:00"),
        ({"failures": 1.5}, "failures is 1.5"),
        ({"run_time": timedelta(0)}, "run_time is 0:00:00"),
        ({"run_time": timedelta(hours=2)}, "run_time is 2:00:00.*limit"),
        ({"feed": Feed(shares={})}, "neither shares nor a schedule"),
        ({"feed": Feed(shares={"shop.own:Mine": 1.0})}, "'shop.own:Mine' cannot be simulated"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidScenario, match=said):
        replace(SMALL, **changes)


def test_a_strategy_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidScenario, match=r"'newest'.*oldest_scheduled.*mix"):
        alone("newest", SMALL)


def test_the_simulator_is_pure() -> None:
    code = (
        "import sys, scheduling.simulation, scheduling.simulation.plot;"
        "assert 'django.db.models' not in sys.modules;"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
