"""The text form: canonical, read back as an equal value, refused in clear words."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.errors import InvalidSchedule, InvalidSpan
from scheduling.schedules import (
    Adaptive,
    Always,
    Cron,
    Every,
    Manual,
    Once,
    Schedule,
    Times,
    parse,
)
from scheduling.spans import format_span, parse_span


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("cron 0 3 * * *", Cron("0 3 * * *")),
        ("cron 0 0 3 * * * *", Cron("0 0 3 * * * *")),
        ("cron 0 3 * * * tz Europe/Berlin", Cron("0 3 * * *", tz="Europe/Berlin")),
        ("cron @daily", Cron("@daily")),
        ("cron @hourly tz Europe/Berlin", Cron("@hourly", tz="Europe/Berlin")),
        ("cron 0 0 1 * 1 and", Cron("0 0 1 * 1", and_days=True)),
        ("cron 0 0 1 * 1 tz UTC and", Cron("0 0 1 * 1", tz="UTC", and_days=True)),
        ("cron 0 0 * JAN MON-FRI", Cron("0 0 * jan mon-fri")),
        ("every 90s", Every("90s")),
        ("every 1h30m", Every(minutes=90)),
        ("every 15m phase 5m", Every("15m", phase="5m")),
        ("every 30m after end", Every("30m", after_end=True)),
        ("every 1h spread", Every("1h", spread=True)),
        ("every 1h phase 5m spread", Every("1h", phase="5m", spread=True)),
        ("times 13:00 23:37", Times("13:00", "23:37")),
        ("times 13:00:30 23:37 tz Europe/Paris", Times("23:37", "13:00:30", tz="Europe/Paris")),
        ("once 2027-01-01T00:00:00+00:00", Once(datetime(2027, 1, 1, tzinfo=UTC))),
        ("adaptive 64d between 12h and 64d factor 2", Adaptive("64d", between=("12h", "64d"))),
        ("adaptive 1d between 12h and 64d factor 1.5", Adaptive("1d", between=("12h", "64d"), factor=1.5)),  # noqa: E501
        ("adaptive ladder", Adaptive()),
        ("always", Always()),
        ("manual", Manual()),
        ("every 5m | cron @daily", Every("5m") | Cron("@daily")),
    ],
)  # fmt: skip
def test_each_form_is_read_and_written_alike(text: str, schedule: Schedule) -> None:
    assert parse(text) == schedule
    assert str(schedule) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0 3 * * *", "cron 0 3 * * *"),
        ("*/5 * * * mon", "cron */5 * * * MON"),
        ("@daily", "cron @daily"),
        ("@every 90s", "every 90s"),
        ("@every 1h30m", "every 1h30m"),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "cron 0 3 * * * tz Europe/Berlin"),
        ("  cron   0 3 * * *  ", "cron 0 3 * * *"),
        ("cron 0 0 1 * 1 and tz Europe/Berlin", "cron 0 0 1 * 1 tz Europe/Berlin and"),
        ("Every 60s", "every 1m"),
        ("every 2w", "every 14d"),
        ("every 15m phase 20m", "every 15m phase 5m"),
        ("once 2027-01-01T01:00:00+01:00", "once 2027-01-01T00:00:00+00:00"),
        ("once 2027-01-01T00:00:00Z", "once 2027-01-01T00:00:00+00:00"),
        ("adaptive 1d between 12h and 64d", "adaptive 1d between 12h and 64d factor 2"),
        ("every 5m|every 5m", "every 5m"),
    ],
)
def test_other_spellings_have_one_canonical_form(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "|",
        "every 5m |",
        "sometimes",
        "daily",
        "cron",
        "cron and",
        "cron 0 3 * * * tz",
        "cron 0 3 * * * tz Mars/Olympus",
        "cron 0 3 * * * AND",
        "every",
        "every 5",
        "every m",
        "every 0s",
        "every -5m",
        "every 1.5h",
        "every 5m5m",
        "every 5m1h",
        "every 5ms",
        "every 99999999999d",
        "every 999999999d",
        "every 999999999w",
        "every 5m phase",
        "every 5m after",
        "every 5m after end spread",
        "times",
        "times tz Europe/Paris",
        "times 24:00",
        "once",
        "once tomorrow",
        "once 2027-01-01",
        "once 2027-01-01T00:00:00",
        "once 0001-01-01T00:00:00+14:00",
        "adaptive",
        "adaptive 1h between 12h and 64d factor 2",
        "adaptive 1d between 64d and 12h factor 2",
        "adaptive 1d between 12h and 64d factor 1",
        "adaptive 1d between 12h and 64d factor nan",
        "always 5m",
        "manual | every 5m",
        "every 5m | always",
        "every \N{ARABIC-INDIC DIGIT FIVE}m",
        "cron \N{FULLWIDTH DIGIT ZERO} 3 * * *",
        "x" * 1_000_000,
        "1 " * 500_000,
        "every 5m | " * 100_000,
        "cron " + "*" * 5_000,
        "times " + "13:00 " * 1_000 + "x",
    ],
    ids=lambda text: text[:40],
)
def test_anything_else_is_refused_at_once_and_briefly(text: str) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidSchedule) as caught:
        parse(text)

    assert time.thread_time() - started < 0.05
    assert len(str(caught.value)) < 300


def test_a_text_that_would_be_too_long_to_be_read_again_is_refused() -> None:
    long = ",".join(["1"] * 48)
    text = "|".join(f"{minute} {long} {long} * *" for minute in range(50))

    assert len(text) < 10_000
    with pytest.raises(InvalidSchedule, match="at most 10000 are read"):
        parse(text)


def test_a_zone_that_is_missing_is_said_to_be() -> None:
    for text in ("cron 0 3 * * * tz", "0 3 * * * tz", "times 13:00 tz"):
        with pytest.raises(InvalidSchedule, match="write a zone behind it"):
            parse(text)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("0123456789*/-,LWH#? @everycontimspa|", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        schedule = parse(text)
    except InvalidSchedule:
        return
    assert parse(str(schedule)) == schedule


@given(st.integers(0, 10**9).map(lambda seconds: timedelta(seconds=seconds)))
def test_the_text_of_any_span_reads_back(span: timedelta) -> None:
    assert parse_span(format_span(span)) == span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0, "0s"), (59, "59s"), (60, "1m"), (90, "90s"), (120, "2m"), (121, "2m1s")],
        *[(5400, "1h30m"), (86_400, "1d"), (64 * 86_400, "64d"), (90_061, "1d1h1m1s")],
    ],
)
def test_a_span_has_one_text(seconds: int, text: str) -> None:
    assert format_span(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("span", [timedelta(seconds=-1), timedelta(milliseconds=1)])
def test_a_span_without_a_text_is_refused(span: timedelta) -> None:
    with pytest.raises(InvalidSpan):
        format_span(span)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("every 5m", "every 5 minutes"),
        ("every 1h", "every hour"),
        ("every 1h30m", "every 1 hour 30 minutes"),
        ("every 15m phase 5m", "every 15 minutes, shifted by 5 minutes"),
        ("every 1h spread", "every hour, spread by name"),
        ("every 30m after end", "every 30 minutes after the end of the previous run"),
        ("times 13:00 23:37 tz Europe/Paris", "at 13:00 and 23:37 every day (Europe/Paris)"),
        ("once 2027-01-01T00:00:00+00:00", "once, on 2027-01-01 at 00:00:00 UTC"),
        ("manual", "only by hand"),
        ("always", "always running"),
        ("adaptive ladder", "adapting to what the runs find, by the ladder"),
        ("every 5m | times 13:00", "every 5 minutes; and at 13:00 every day"),
        ("cron 0 3 * * * tz Europe/Berlin", "at 03:00 every day (Europe/Berlin)"),
        ("cron @daily", "at 00:00 every day"),
        ("cron @hourly", "every hour"),
        ("cron * * * * *", "every minute"),
        ("cron */5 * * * *", "every 5 minutes"),
        ("cron 0 */2 * * *", "every 2 hours"),
        ("cron 15 * * * *", "at minute 15 of every hour"),
        ("cron 5/15 * * * *", "every 15 minutes from minute 5 of every hour"),
        ("cron 30 */2 * * *", "every 2 hours from 00:30 to 22:30"),
        (
            "cron */15 9-17 * * MON-FRI",
            "every 15 minutes from 09:00 to 17:45, from Monday to Friday",
        ),
        ("cron 0,30 9 * * 1", "at 09:00 and 09:30 on Monday"),
        ("cron 0 9 1 1 *", "at 09:00 on the 1st of January"),
        ("cron 0 9 1,15 * 5", "at 09:00 on the 1st and the 15th of the month and on Friday"),
        ("cron 0 0 1 * 1 and", "at 00:00 on the 1st of the month if it is Monday"),
        ("cron 0 0 L * *", "at 00:00 on the last day of the month"),
        ("cron 0 0 LW * *", "at 00:00 on the last workday of the month"),
        ("cron 0 0 15W * *", "at 00:00 on the workday nearest the 15th of the month"),
        ("cron 0 0 * * 5L", "at 00:00 on the last Friday of the month"),
        ("cron 0 0 * * 1#2", "at 00:00 on the second Monday of the month"),
        ("cron H H * * *", "at minute H of hour H every day (H: chosen by name)"),
        ("cron */10 * * * * * *", "every 10 seconds"),
        ("cron 30 5 * * * * *", "at second 30 of minute 5 of every hour"),
        ("cron 0 0 3 * * * 2027", "at 03:00 every day in 2027"),
        ("cron 0 0 3 1 6 * 2027-2029", "at 03:00 on the 1st of June from 2027 to 2029"),
        ("cron 0 0 0 * * * 2025-2030/2", "at 00:00 every day, every 2 years from 2025 to 2029"),
        # a step that does not fit its field begins anew with each hour or day
        ("cron */7 * * * *", "every 7 minutes from minute 0 to 56 of every hour"),
        ("cron 0 */5 * * *", "every 5 hours from 00:00 to 20:00 every day"),
        ("cron */20,45 * * * *", "at minutes 0, 20, 40 and 45 of every hour"),
        # times
        ("cron 0 */4 * * *", "every 4 hours"),
        ("cron 0 0,12 * * *", "at 00:00 and 12:00 every day"),
        ("cron 0 9-17 * * 1-5", "every hour from 09:00 to 17:00, from Monday to Friday"),
        ("cron 0 22-1 * * * and", "at 00:00, 01:00, 22:00 and 23:00 every day"),
        ("cron * 9 * * *", "every minute from 09:00 to 09:59 every day"),
        (
            "cron */5 8-11,14 * * *",
            "every 5 minutes from 08:00 to 11:55 and from 14:00 to 14:55 every day",
        ),
        ("cron 0 1-4,9,12,15 * * *", "at minute 0 of hours 1 to 4, 9, 12 and 15 every day"),
        ("cron 1-4 1,2 * * *", "at minutes 1 to 4 of hours 1 and 2 every day"),
        ("cron 5-5 * * * *", "at minute 5 of every hour"),
        ("cron 30 * * * * * *", "at second 30 of every minute"),
        ("cron 5/20 * * * * * *", "every 20 seconds from second 5 of every minute"),
        ("cron */7 * * * * * *", "every 7 seconds from second 0 to 56 of every minute"),
        ("cron */5 0-10 9 * * * *", "every 5 seconds of minutes 0 to 10 of hour 9 every day"),
        ("cron 15 30 9 * * 1 *", "at 09:30:15 on Monday"),
        # days
        ("cron 0 9 10-20 * *", "at 09:00 from the 10th to the 20th of the month"),
        (
            "cron 0 9 2,3,11-13,22 * *",
            "at 09:00 on the 2nd, the 3rd, the 11th to the 13th and the 22nd of the month",
        ),
        ("cron 0 9 */2 * *", "at 09:00 on every 2nd day from the 1st to the 31st of the month"),
        ("cron 0 0 1,L * *", "at 00:00 on the 1st and the last day of the month"),
        ("cron 0 0 29 2 *", "at 00:00 on the 29th of February"),
        ("cron 0 9 1 */3 *", "at 09:00 on the 1st of January, April, July and October"),
        ("cron 0 9 L 3-5 *", "at 09:00 on the last day of every month from March to May"),
        ("cron 0 9 * 6-8 *", "at 09:00 every day from June to August"),
        ("cron 0 9 * * */2", "at 09:00 on Tuesday, Thursday, Saturday and Sunday"),
        ("cron 0 9 * * 5-7", "at 09:00 from Friday to Sunday"),
        ("cron 0 9 * 3 1", "at 09:00 on Monday in March"),
        ("cron 0 9 * 3 5L", "at 09:00 on the last Friday of March"),
        ("cron 0 9 * * 1#1,5", "at 09:00 on Friday and the first Monday of the month"),
        ("cron 0 9 13 3 5", "at 09:00 on the 13th of the month and on Friday, in March"),
        (
            "cron 0 9 13 * 5L",
            "at 09:00 on the 13th of the month and on the last Friday of the month",
        ),
        ("cron 0 9 1-7 * 1 and", "at 09:00 from the 1st to the 7th of the month if it is Monday"),
        ("cron 0 9 13 * 0-6", "at 09:00 every day"),
        # chosen by name
        ("cron H/15 * * * *", "every 15 minutes from minute H of every hour (H: chosen by name)"),
        ("cron H H 9 * * * *", "at second H of minute H of hour 9 every day (H: chosen by name)"),
        ("cron 0 9 H H *", "at 09:00 on day H of month H (H: chosen by name)"),
        ("cron 0 9 * * H", "at 09:00 on weekday H (H: chosen by name)"),
        (
            "adaptive 1d between 12h and 64d",
            "every day at first, adapting between 12 hours and 64 days by a factor of 2",
        ),
    ],
)
def test_a_schedule_says_itself_in_english(text: str, sentence: str) -> None:
    assert parse(text).sentence() == sentence
