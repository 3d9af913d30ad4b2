"""Crontab files, line by line: what would run when, and what cannot be understood. Pure.

The format is crontab(5) of Vixie cron and cronie: comments, `NAME = value`, and entries of five
fields or an @name, in system files a user, and a command. Every line that is not blank or a comment
becomes an entry or a problem; what is left out of a line is in the notes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from scheduling.crontab_commands import Call, read_command
from scheduling.errors import InvalidSchedule
from scheduling.schedules import Cron
from scheduling.shell_words import NeedsAShell
from scheduling.zones import load_zone

LONGEST_LINE = 10_000  # cron reads a tenth of it
_SETTING = re.compile(r"([A-Za-z_]\w*|\"[^\"=]+\"|'[^'=]+')\s*=\s*(.*)", re.ASCII)
_ADDRESS = re.compile(r"[^@\s,]+@[^@\s,]+")
_UNUSED = {
    "SHELL": "jobs run without a shell",
    "RANDOM_DELAY": "write H for the minute, or another minute",
    "MAILFROM": "the sender is JOBS_NOTIFY_FROM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line that can run. `recipients` is None where no MAILTO is in force."""

    number: int
    text: str
    schedule: Cron
    call: Call
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A line that is not taken over; `call` is what it would run, where that is understood."""

    number: int
    text: str
    problem: str
    call: Call | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crontab:
    """All lists in the order of the file."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_crontab(text: str, *, zone: str, users: frozenset[str] | None = None) -> Crontab:
    """Read a user's crontab, in whose lines clock times are `zone`'s unless it says otherwise.

    `users`: it is a system crontab, with a user in each entry; only these users' are taken.
    """
    return _Reader(zone, users).read(text)


class _Reader:
    """What the lines above say for the lines below."""

    def __init__(self, zone: str, users: frozenset[str] | None) -> None:
        self._default_zone = zone
        self._zones: dict[str, str] = {}
        self._users = users
        self._recipients: tuple[str, ...] | None = None
        self._found = Crontab()

    def read(self, text: str) -> Crontab:
        for number, line in enumerate(text.split("\n"), start=1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            try:
                if len(stripped) > LONGEST_LINE:
                    raise NeedsAShell(f"It has more than {LONGEST_LINE} characters; shorten it")
                if "\0" in stripped:
                    raise NeedsAShell("It has a NUL character; remove it")
                if setting := _SETTING.fullmatch(stripped):
                    self._set(number, setting[1].strip("'\""), _unquoted(setting[2]))
                else:
                    self._entry(number, stripped)
            except (InvalidSchedule, NeedsAShell) as error:
                self._problem(number, stripped, str(error))
        return self._found

    def _set(self, number: int, name: str, value: str) -> None:
        match name:
            case "CRON_TZ" | "TZ":
                self._zones[name] = value
                if name == "TZ":
                    self._note(number, "TZ is taken for the zone of the times below, as CRON_TZ is")
                if value:
                    load_zone(value)
            case "MAILTO":
                self._set_recipients(number, value)
            case _:
                why = _UNUSED.get(name, "set it for the worker")
                self._note(number, f"{name} is not taken over: {why}")

    def _set_recipients(self, number: int, value: str) -> None:
        names = [name for name in re.split(r"[,\s]+", value) if name]
        self._recipients = tuple(name for name in names if _ADDRESS.fullmatch(name))
        if local := [name for name in names if name not in self._recipients]:
            self._note(number, f"{', '.join(local)}: no e-mail address, gets no mails of jobs")

    def _entry(self, number: int, line: str) -> None:
        if line.startswith("-"):
            self._note(number, "the leading - is left out: it only concerns cron's own log")
            line = line[1:]
        times = 1 if line.startswith("@") else 5
        words = line.split(None, times)
        expression = " ".join(words[:times])
        if expression == "@reboot":
            raise NeedsAShell("@reboot is no time; have the machine's service manager start it")
        if len(words) <= times:
            raise NeedsAShell(
                "It is neither a setting nor five fields and a command; correct the line"
            )
        call = read_command(_without_input(self._without_user(words[times])))
        for note in call.notes:
            self._note(number, note)
        try:
            schedule = Cron(expression, tz=self._zone)
        except InvalidSchedule as error:
            self._problem(number, line, str(error), call)
            return
        self._found.entries.append(
            Entry(
                number=number,
                text=line,
                schedule=schedule,
                call=call,
                recipients=self._recipients,
            )
        )

    @property
    def _zone(self) -> str:
        return self._zones.get("CRON_TZ") or self._zones.get("TZ") or self._default_zone

    def _without_user(self, command: str) -> str:
        if self._users is None:
            return command
        user, *rest = command.split(None, 1)
        if user not in self._users:
            raise NeedsAShell(
                f"It runs as {user!r}, and jobs run as the workers' user; "
                f"if that is meant, say --user {user}"
            )
        return "".join(rest)

    def _problem(self, number: int, line: str, problem: str, call: Call | None = None) -> None:
        self._found.problems.append(Problem(number=number, text=line, problem=problem, call=call))

    def _note(self, number: int, note: str) -> None:
        self._found.notes.append(f"line {number}: {note}")


def _unquoted(value: str) -> str:
    value = value.strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _without_input(command: str) -> str:
    r"""cron's own quoting: `\%` is a percent sign, a bare one begins the command's input."""
    if re.search(r"(?<!\\)%", command):
        raise NeedsAShell(
            "What follows % is the input of the command, and jobs have none; put both into a "
            r"script, or write \% for a percent sign"
        )
    return command.replace("\\%", "%")
