"""Hypothesis strategies for schedules of every kind."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import assume
from hypothesis import strategies as st

from scheduling.calendars import DaysOff, Except
from scheduling.errors import InvalidSchedule
from scheduling.schedules import (
    Adaptive,
    Always,
    Cron,
    Every,
    Manual,
    Once,
    Schedule,
    Times,
    union,
)
from scheduling.zones import ClockChange

ZONES = [
    *[None, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"],
    *["Asia/Gaza", "America/Argentina/Buenos_Aires", "Antarctica/Troll"],
]
# Four days in which the clocks of Berlin, Troll and Lord Howe are moved, about a month's end.
FIRST, LAST = datetime(2024, 3, 30), datetime(2024, 4, 7, 18)  # noqa: DTZ001

zones = st.sampled_from(ZONES)
moments = st.datetimes(FIRST, LAST, timezones=st.just(UTC))
rules = st.sampled_from(ClockChange)
_days = st.dates(date(2024, 3, 29), date(2024, 4, 8))
calendars = st.builds(
    lambda days, yearly, zone: DaysOff.parse("\n".join(days + yearly), timezone=zone),
    st.lists(_days.map(str), max_size=6),
    st.lists(_days.map("{:%m-%d}".format), max_size=3),
    st.sampled_from(ZONES[1:]),
)
seconds = st.integers(1, 10**8).map(lambda number: timedelta(seconds=number))


def _numbers(low: int, high: int, *others: str) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: "-".join(map(str, sorted(pair))))
    step = st.integers(1, min(high, 99)).map(lambda width: f"/{width}")
    plain = st.one_of(number.map(str), span, st.tuples(span, step).map("".join))
    listed = st.lists(st.one_of(plain, *map(st.just, others)), min_size=1, max_size=3)
    starred = st.one_of(st.just("*"), st.just("*"), step.map(lambda text: f"*{text}"))
    return st.one_of(starred, listed.map(",".join))


_date = [
    _numbers(1, 31, "L", "LW", "15W", "31W", "H"),
    _numbers(1, 12, "FEB", "MAR-APR", "H"),
    _numbers(0, 6, "7", "SUN", "MON-FRI", "5L", "1#1", "7#5", "H"),
]
_five = st.tuples(_numbers(0, 59, "H", "H/20"), _numbers(0, 23, "H(1-3)"), *_date)
_seven = st.tuples(
    st.sampled_from(["0", "30", "0,59", "*/30", "H", "50-59/5"]),
    _numbers(0, 59, "H"),
    _numbers(0, 23, "H"),
    *_date,
    st.sampled_from(["*", "*/2", "2024", "2023-2030", "1999,2024-2099/25"]),
)


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    names = st.sampled_from([("@daily",), ("@hourly",), ("@weekly",), ("@monthly",)])
    fields = draw(st.one_of(_five, _five, _seven, names))
    try:
        return Cron(" ".join(fields), tz=draw(zones), and_days=draw(st.booleans()))
    except InvalidSchedule as error:
        assume("never fires" not in str(error) and "wider than the field" not in str(error))
        raise


times_of_day = st.lists(
    st.times().map(lambda each: each.replace(microsecond=0)), min_size=1, max_size=4
)
times = st.builds(lambda each, tz: Times(*each, tz=tz), times_of_day, zones)
intervals = st.builds(
    Every,
    st.integers(40, 200_000).map(lambda number: timedelta(seconds=number)),
    phase=seconds,
    spread=st.booleans(),
)
onces = st.builds(Once, moments)
pauses = st.builds(Every, seconds, after_end=st.just(True))
ladders = st.just(Adaptive()) | st.tuples(seconds, seconds, seconds, st.floats(1.001, 1000)).map(
    lambda drawn: Adaptive(
        sorted(drawn[:3])[1], between=(min(drawn[:3]), max(drawn[:3])), factor=drawn[3]
    )
)


def _joined(*kinds: st.SearchStrategy[Schedule]) -> st.SearchStrategy[Schedule]:
    return st.lists(st.one_of(*kinds), min_size=1, max_size=3).map(lambda each: union(*each))


anchored = _joined(crons(), crons(), times, intervals, onces)
"""Schedules with fire times of their own: at most some ten thousand from FIRST to LAST."""
ruled = st.builds(
    lambda schedule, rule, days: Except(schedule.under(rule), days), anchored, rules, calendars
)
"""The same by all the rules that a job adds: for clock changes, and with days off."""
with_pauses = st.builds(lambda pause, other: pause | other, pauses, anchored) | pauses
any_kind = st.one_of(
    st.just(Manual()),
    st.just(Always()),
    ladders,
    _joined(crons(), times, intervals, onces, pauses, ladders),
)
