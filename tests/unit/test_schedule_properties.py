"""What every schedule promises, whatever its kind: checked on random ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain, islice, pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling import cron, cron_words
from scheduling.policies import CatchUp, Skip, plan_fires
from scheduling.schedules import Schedule, parse
from tests.unit.any_schedule import anchored, any_kind, moments, ruled, with_pauses

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


@settings(deadline=None, max_examples=300)
@given(any_kind)
def test_the_text_reads_back_as_an_equal_schedule(schedule: Schedule) -> None:
    text = str(schedule)

    assert parse(text) == schedule
    assert hash(parse(text)) == hash(schedule)
    assert str(parse(text)) == text
    assert parse(f"  {text.replace(' ', '  ')} ") == schedule


@settings(deadline=None, max_examples=300)
@given(any_kind)
def test_the_sentence_is_one_tidy_line(schedule: Schedule) -> None:
    sentence = schedule.sentence()

    assert sentence == " ".join(sentence.split())
    assert sentence.isascii()
    assert not any(odd in sentence for odd in ("None", " ,", ",,", "of of"))


def test_cron_expressions_with_one_sentence_name_the_same_times() -> None:
    fields = [
        ["0", "30", "*/30", "*/7", "5/20", "0-10", "1,2,50"],
        ["*", "9", "*/4", "*/5", "9-17", "0,12", "8-10,13"],
        ["*", "1", "*/2", "10-20", "1,L", "15W"],
        ["*", "2", "3-5", "*/6"],
        ["*", "1", "1-5", "0-6", "*/2", "1,5L", "1#1,3"],
    ]
    seen: dict[str, tuple[list[int | None], str]] = {}
    for combined, both_days in product(product(*fields), (False, True)):
        expression = " ".join(combined)
        rule = cron.compile_rule(expression, both_days, "")
        local, times = 1_700_000_000, []
        for _ in range(12):
            found = rule.next_local(local)
            times.append(found)
            local = (found or local) + 1
        sentence = cron_words.describe(expression, both_days=both_days)
        same, other = seen.setdefault(sentence, (times, expression))
        assert same == times, (sentence, expression, other)


@settings(deadline=None, max_examples=300)
@given(schedule=anchored | ruled, cuts=st.lists(moments, min_size=2, max_size=5).map(sorted))
def test_neighbouring_windows_neither_repeat_nor_lose(
    schedule: Schedule, cuts: list[datetime]
) -> None:
    whole = list(schedule.between(cuts[0], cuts[-1], name="job"))
    parts = [list(schedule.between(a, b, name="job")) for a, b in pairwise(cuts)]

    assert [*chain(*parts)] == whole
    assert whole == sorted(set(whole))
    assert all(cuts[0] < fire <= cuts[-1] and fire.tzinfo is UTC for fire in whole)
    for (a, b), part in zip(pairwise(cuts), parts, strict=True):
        assert schedule.count(a, b, name="job") == len(part)


@settings(deadline=None, max_examples=300)
@given(schedule=anchored | ruled, after=moments)
def test_next_is_the_first_of_between(schedule: Schedule, after: datetime) -> None:
    far = datetime.max.replace(tzinfo=UTC)
    fires = list(islice(schedule.between(after, far, name="job"), 5))
    moment = after
    for fire in fires:
        assert schedule.next(moment, name="job") == fire
        assert schedule.next(fire - TICK, name="job") == fire
        moment = fire
    if len(fires) < 5:
        assert schedule.next(moment, name="job") is None


@settings(deadline=None, max_examples=300)
@given(schedule=anchored | ruled | with_pauses, at=moments)
def test_the_period_is_positive(schedule: Schedule, at: datetime) -> None:
    period = schedule.period(at, name="job")
    assert period is None or period > timedelta()


@settings(deadline=None, max_examples=400)
@given(
    schedule=anchored | ruled | with_pauses,
    begin=moments,
    catch_up=st.sampled_from(CatchUp),
    window=st.timedeltas(timedelta(), 2 * DAY),
    grace=st.timedeltas(timedelta(), timedelta(hours=2)),
    max_fires=st.integers(1, 30) | st.just(10_000),
    ticks=st.lists(
        st.tuples(st.timedeltas(timedelta(), DAY), st.none() | st.integers(0, 5)),
        min_size=1,
        max_size=6,
    ),
)
def test_every_fire_is_started_or_skipped_exactly_once(
    schedule: Schedule,
    begin: datetime,
    catch_up: CatchUp,
    window: timedelta,
    grace: timedelta,
    max_fires: int,
    ticks: list[tuple[timedelta, int | None]],
) -> None:
    nexts = [schedule.next(begin, name="job"), schedule.after_end(begin)]
    first = cursor = min(filter(None, nexts), default=None)
    now = begin
    started: list[datetime] = []
    skipped: list[Skip] = []
    for passed, budget in ticks:
        now += passed
        if cursor is None:
            break
        made = plan_fires(
            schedule,
            cursor=cursor,
            now=now,
            catch_up=catch_up,
            window=window,
            grace=grace,
            budget=budget,
            max_fires=max_fires,
            name="job",
        )
        assert made.cursor is None or made.cursor >= cursor
        assert not made.truncated or (made.cursor is not None and made.cursor <= now)
        assert made.truncated or made.cursor is None or made.cursor > now
        assert budget is None or sum(f.cause == "catch_up" for f in made.start) <= max(budget, 1)
        assert [fire.at for fire in made.start] == sorted({fire.at for fire in made.start})
        assert all(cursor <= fire.at <= now for fire in made.start)
        assert all(cursor <= skip.first <= skip.last < now for skip in made.skips)
        started += [fire.at for fire in made.start]
        skipped += made.skips
        cursor = made.cursor

    decided_until = (cursor or now + TICK) - TICK
    named = set(schedule.between(begin, decided_until, name="job"))
    if first is not None and first <= decided_until:
        named.add(first)  # the end of a pause, which is no fire time of the schedule's own
    covered = list(started)
    for skip in skipped:
        stretch = list(schedule.between(skip.first - TICK, skip.last, name="job"))
        assert (stretch[0], stretch[-1], len(stretch)) == (skip.first, skip.last, skip.fires)
        covered += stretch
    assert sorted(covered) == sorted(named)
