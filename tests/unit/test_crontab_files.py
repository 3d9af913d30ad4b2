"""Crontab files as text: every line is understood, or named with what to do."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.crontab_commands import Call, read_command
from scheduling.crontab_files import Crontab, Entry, read_crontab
from scheduling.shell_words import NeedsAShell, tokens

SYSTEM = "SHELL=/bin/sh\n17 * * * *\troot    run-parts /etc/cron.hourly\n@daily me /bin/x\n"


def read(*lines: str, zone: str = "UTC") -> Crontab:
    return read_crontab("\n".join(lines), zone=zone)


def entry(*lines: str) -> Entry:
    found = read(*lines)
    assert found.problems == []
    (only,) = found.entries
    return only


def problem(*lines: str) -> str:
    found = read(*lines)
    assert found.entries == []
    (only,) = found.problems
    return only.problem


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "schedule"),
    [
        ("0 3 * * * /bin/x", "cron 0 3 * * * tz UTC"),
        ("  */15\t9-17  * jan-mar,dec mon-fri   /bin/x", "cron */15 9-17 * JAN-MAR,DEC MON-FRI"),
        ("@daily /bin/x", "cron @daily tz UTC"),
        ("@Midnight\t/bin/x", "cron @midnight tz UTC"),
        ("0 0 1 * 7 /bin/x", "cron 0 0 1 * 7 tz UTC"),
        ("-5 4 * * * /bin/x", "cron 5 4 * * * tz UTC"),
    ],
)
def test_the_times_of_a_line(line: str, schedule: str) -> None:
    assert str(entry(line).schedule).startswith(schedule)


def test_day_and_weekday_are_alternatives_as_in_cron() -> None:
    fires = entry("0 0 1 * 1 /bin/x").schedule.between(
        datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    )
    assert [fire.day for fire in fires] == [5, 12, 19, 26, 1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("61 3 * * * /bin/x", "minute '61' has 61, outside 0-59"),
        ("0 3 30 2 * /bin/x", "never fires"),
        ("5~10 3 * * * /bin/x", "minute"),
        ("0 22-2 * * * /bin/x", "hour"),
        ("@fortnightly /bin/x", "'@fortnightly' is unknown"),
        ("@reboot /bin/x", "service manager"),
        ("0 3 * * *", "five fields and a command"),
        ("@daily", "five fields and a command"),
        ("rubbish", "five fields and a command"),
        ("0 3 * * * /bin/x\0y", "NUL"),
        (f"0 3 * * * {'{,' * 5000}", "more than 10000 characters"),
    ],
)
def test_a_line_whose_times_cannot_be_read_is_named(line: str, said: str) -> None:
    assert said in problem(line)


def test_a_line_with_wrong_times_still_says_what_it_would_run() -> None:
    (only,) = read("61 3 * * * /bin/x a").problems
    assert only.call == Call(words=("/bin/x", "a"))


# --- settings -------------------------------------------------------------------------------------


def test_a_time_zone_holds_for_the_lines_below_it() -> None:
    found = read(
        "0 1 * * * /bin/x",
        "CRON_TZ=Asia/Tokyo",
        "0 2 * * * /bin/x",
        'CRON_TZ = ""',
        "0 3 * * * /bin/x",
        zone="Europe/Berlin",
    )
    assert [each.schedule.tz for each in found.entries] == [
        *("Europe/Berlin", "Asia/Tokyo", "Europe/Berlin"),
    ]


def test_cron_tz_is_stronger_than_tz_and_tz_is_noted() -> None:
    found = read("CRON_TZ=Asia/Tokyo", "TZ=Europe/Paris", "0 1 * * * /bin/x")
    assert found.entries[0].schedule.tz == "Asia/Tokyo"
    assert found.notes == ["line 2: TZ is taken for the zone of the times below, as CRON_TZ is"]


def test_no_line_below_an_unknown_time_zone_fires_at_a_wrong_time() -> None:
    found = read("CRON_TZ=Mars/Olympus", "0 1 * * * /bin/x", "0 2 * * * /bin/x")
    assert found.entries == []
    assert [each.number for each in found.problems] == [1, 2, 3]
    assert all("Mars/Olympus" in each.problem for each in found.problems)


@pytest.mark.parametrize(
    ("setting", "recipients"),
    [
        ("# nothing", None),
        ("MAILTO=", ()),
        ('MAILTO=""', ()),
        ("MAILTO = ops@example.org", ("ops@example.org",)),
        ("MAILTO='a@example.org, b@example.org'", ("a@example.org", "b@example.org")),
        ("MAILTO=root,a@example.org", ("a@example.org",)),
    ],
)
def test_mailto_names_the_recipients_of_the_lines_below(
    setting: str, recipients: tuple[str, ...] | None
) -> None:
    assert entry(setting, "0 3 * * * /bin/x").recipients == recipients


def test_a_recipient_that_is_no_address_is_noted() -> None:
    assert read("MAILTO=root").notes == ["line 1: root: no e-mail address, gets no mails of jobs"]


@pytest.mark.parametrize("name", ["PATH", "HOME", "SHELL", "RANDOM_DELAY", "MAILFROM", '"MY VAR"'])
def test_other_settings_are_reported_as_not_taken_over(name: str) -> None:
    (note,) = read(f"{name} = value").notes
    assert note.startswith(f"line 1: {name.strip(chr(34))} is not taken over: ")


# --- users ----------------------------------------------------------------------------------------


def test_a_system_file_names_users_and_only_those_asked_for_are_taken() -> None:
    found = read_crontab(SYSTEM, zone="UTC", users=frozenset({"me"}))
    assert [each.call.words for each in found.entries] == [("/bin/x",)]
    (refused,) = found.problems
    assert refused.number == 2
    assert "runs as 'root'" in refused.problem
    assert "--user root" in refused.problem


def test_a_system_line_with_a_user_and_nothing_else_is_named() -> None:
    found = read_crontab("0 3 * * * me\n", zone="UTC", users=frozenset({"me"}))
    assert "no command" in found.problems[0].problem


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("/bin/x", Call(words=("/bin/x",))),
        ("x 'a b' \"c d\" e\\ f ''", Call(words=("x", "a b", "c d", "e f", ""))),
        ('x "it\'s" \'say "hi"\' "a\\"b\\n"', Call(words=("x", "it's", 'say "hi"', 'a"b\\n'))),
        (
            "x '$HOME' '*' \\$y '~' a~b a#b",
            Call(words=("x", "$HOME", "*", "$y", "~", "a~b", "a#b")),
        ),
        ("x # nightly", Call(words=("x",))),
        ("date +\\%F", Call(words=("date", "+%F"))),
        ("cd /srv/app && x y", Call(words=("x", "y"), folder="/srv/app")),
        ("exec /bin/x", Call(words=("/bin/x",))),
        ("timeout 30 x", Call(words=("x",), limit=timedelta(seconds=30))),
        ("timeout -k 5 -s KILL 1.5m x", Call(words=("x",), limit=timedelta(seconds=90))),
        ("timeout --kill-after=5s 2h x", Call(words=("x",), limit=timedelta(hours=2))),
        ("timeout 0.1 x", Call(words=("x",), limit=timedelta(seconds=1))),
        ("timeout 0 x", Call(words=("x",))),
        ("flock -n /run/x.lock x y", Call(words=("x", "y"), lock="/run/x.lock", gives_way=True)),
        ("/usr/bin/flock /l x", Call(words=("x",), lock="/l")),
        ("flock -w 10 -E 0 /l x", Call(words=("x",), lock="/l")),
        ("flock -xn /l -c 'x \"a b\"'", Call(words=("x", "a b"), lock="/l", gives_way=True)),
        (
            "flock --nonblock /l timeout 5 x",
            Call(words=("x",), lock="/l", gives_way=True, limit=timedelta(seconds=5)),
        ),
    ],
)
def test_a_plain_command_is_understood(command: str, call: Call) -> None:
    assert entry(f"0 3 * * * {command}").call == call


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("x >/dev/null 2>&1", [">/dev/null"]),
        ("x 1> /dev/null 2>/dev/null", ["1>/dev/null", "2>/dev/null"]),
        ("x &>/dev/null", ["&>/dev/null"]),
        ("x >> /var/log/x.log 2>&1", [">> /var/log/x.log"]),
        ("2>>err.log x", ["2>> err.log"]),
        ("x 2>err.log", ["2> err.log"]),
        ("nice -n 10 x", ["nice"]),
        ("nice -- x", ["nice"]),
        ("nice -10 ionice -c3 -n 7 x", ["nice", "ionice"]),
        ("ionice -t -c 3 x </dev/null", ["ionice"]),
    ],
)
def test_what_means_nothing_here_is_left_out_and_noted(command: str, left_out: list[str]) -> None:
    found = read(f"0 3 * * * {command}")
    assert [each.call.words for each in found.entries] == [("x",)]
    assert [note.partition(" is left out")[0] for note in found.notes] == [
        f"line 1: {each}" for each in left_out
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("x | mail ops", "'|' passes output on"),
        ("x && y", "'&&' joins commands"),
        ("x || y", "'||' joins commands"),
        ("x; y", "';' joins commands"),
        ("[ -x /bin/x ] && /bin/x", "'&&' joins commands"),
        ("x &", "goes on in the background"),
        ("(x)", "groups commands"),
        ("x > out.csv", "writes its output into 'out.csv'"),
        ("x < in.csv", "reads its input"),
        ("x << EOF", "reads its input"),
        ("x >", "redirects"),
        ("x $HOME", "'$HOME' stands for"),
        ('x "$(date)"', "'$(' stands for"),
        ('x "${A}"', "'${A}' stands for"),
        ("x `date`", "backticks"),
        ("rm /var/cache/*", "'*' stands for names of files"),
        ("x a?c", "'?' stands for"),
        ("~/bin/x", "home directory"),
        ("x {a,b}", "several words"),
        ("x 'a", "quote ' is not closed"),
        ("x \\", "ends in a backslash"),
        ("A=1 x", "sets the variable A"),
        ("if true", "a word of the shell"),
        (". /etc/profile", "a word of the shell"),
        ("sleep 30; x", "H for the minute"),
        ("cd /a && cd /b && x", "'&&' joins commands"),
        ("a%b", "input of the command"),
        ("flock -n /l", "write flock -n FILE COMMAND"),
        ("flock 9", "write flock -n FILE COMMAND"),
        ("flock -s /l x", "shared lock"),
        ("flock /l flock /m x", "two locks"),
        ("flock /l -c x y", "one command"),
        ("flock -? /l x", "'?'"),
        ("timeout x", "no span"),
        ("timeout -Q 3 x", "'-Q'"),
        ("nice", "no command"),
        (">/dev/null", "no command"),
    ],
)
def test_what_takes_a_shell_is_not_run_but_named(command: str, said: str) -> None:
    assert said in problem(f"0 3 * * * {command}")


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0\n")), min_size=1))
def test_quoted_words_are_split_as_the_standard_library_splits_them(words: list[str]) -> None:
    line = shlex.join(words)
    assert [token.text for token in tokens(line)] == shlex.split(line) == words


@given(st.text(st.sampled_from("ab \t'\"\\")))
def test_quotes_mean_what_they_mean_to_the_standard_library(text: str) -> None:
    try:
        expected = shlex.split(text)
    except ValueError:
        with pytest.raises(NeedsAShell):
            tokens(text)
    else:
        assert [token.text for token in tokens(text)] == expected


@given(st.text(st.sampled_from("ab \t'\"\\$&|;<>()2#~*[{,}-/=%")))
def test_any_text_is_a_call_or_a_reason(text: str) -> None:
    with suppress(NeedsAShell):
        assert read_command(text).words


@given(
    st.lists(
        st.sampled_from(
            [
                *("", "# note", "A=1", "CRON_TZ=UTC", "CRON_TZ=Nowhere", "MAILTO=x"),
                *("0 3 * * * x", "@daily x | y", "@reboot x", "9 9 9 9 9 x%", "rubbish", "\0"),
                *("0 3 * * * x >> l 2>&1", "  0 99 * * * x", "-@daily x"),
            ]
        )
    ),
    st.sampled_from([None, frozenset({"x"})]),
)
def test_no_line_is_lost(lines: list[str], users: frozenset[str] | None) -> None:
    found = read_crontab("\r\n".join(lines), zone="UTC", users=users)
    told = {each.number for each in found.entries} | {each.number for each in found.problems}
    noted = {int(number) for note in found.notes for number in re.findall(r"^line (\d+):", note)}
    zones = {n for n, line in enumerate(lines, 1) if line in ("CRON_TZ=UTC", "MAILTO=x")}
    active = {n for n, line in enumerate(lines, 1) if line and not line.startswith("#")}
    assert active == told | noted & active | zones - told
    assert len(told) == len(found.entries) + len(found.problems)
