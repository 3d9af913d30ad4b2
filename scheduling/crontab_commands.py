"""The command of a crontab's line: a plain call, and what its wrappers mean here. Pure.

Only plain calls are understood: a program, its arguments, and in front of it `cd FOLDER &&`,
`flock`, `timeout`, `nice` and `ionice`. Everything else takes a shell, which jobs have not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePath

from scheduling.declared_values import LONGEST_KEY
from scheduling.shell_words import NeedsAShell, Operator, Token, Word, needs_a_shell, tokens

NULL = "/dev/null"
# What sh does itself; some have namesakes among programs, which do nothing for a job.
_OF_THE_SHELL = frozenset(
    {
        *(".", ":", "!", "{", "}", "alias", "case", "cd", "command", "eval", "exit", "export"),
        *("for", "if", "read", "set", "shift", "source", "trap", "ulimit", "umask", "unset"),
        *("until", "wait", "while"),
    }
)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_LIMIT = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`words` are a program and its arguments; `notes` say what was left out, and why."""

    words: tuple[str, ...]
    folder: str = ""  # of a leading cd
    lock: str = ""  # of flock
    gives_way: bool = False  # flock -n: is left out while the lock is held
    limit: timedelta | None = None  # of timeout
    notes: tuple[str, ...] = ()


def read_command(text: str) -> Call:
    """Read a command as sh would. Raises NeedsAShell, which says what to do instead."""
    folder, rest = _without_cd(tokens(text))
    words, notes = _without_redirections(rest)
    return replace(_unwrapped(words, tuple(notes)), folder=folder)


def _without_cd(found: list[Token]) -> tuple[str, list[Token]]:
    match found:
        case [Word("cd"), Word(folder), Operator("&&"), *rest]:
            return folder, rest
    return "", found


def _without_redirections(found: list[Token]) -> tuple[list[Word], list[str]]:
    words: list[Word] = []
    notes: list[str] = []
    left = list(found)
    while left:
        token = left.pop(0)
        if isinstance(token, Word):
            words.append(token)
            continue
        goal = left.pop(0) if left and isinstance(left[0], Word) else None
        if not isinstance(goal, Word) or token.text.strip("<>&") or token.text in ("&", "&&"):
            raise _operator_problem(token, words)
        if note := _redirection(token, goal.text):
            notes.append(note)
    return words, notes


def _redirection(operator: Operator, goal: str) -> str:
    """Say in a note what is left out with a redirection; "" if nothing is."""
    match operator.text, goal:
        case (">&", "1" | "2") | ("<", "/dev/null"):
            return ""
        case (">" | ">>" | ">&" | "&>" | "&>>", "/dev/null"):
            return f"{operator.number}{operator.text}{NULL} is left out: the history keeps output"
        case (">>" | "&>>" | "&>", _):
            return (
                f"{operator.number}{operator.text} {goal} is left out: output goes to the "
                "history, not to that file"
            )
        case (">", _) if operator.number == "2":
            return f"2> {goal} is left out: output goes to the history, not to that file"
        case (">" | ">&", _):
            raise needs_a_shell(f"It writes its output into {goal!r}")
    raise needs_a_shell(f"It reads its input with {operator.text!r}")


def _operator_problem(operator: Operator, before: list[Word]) -> NeedsAShell:
    if before and before[0].text == "sleep" and operator.text in (";", "&&"):
        return NeedsAShell(
            "It sleeps before it runs; leave that out, and write another minute, or H for the "
            "minute to spread jobs"
        )
    meaning = {
        "|": "passes output on",
        "&&": "joins commands",
        "||": "joins commands",
        ";": "joins commands",
        "&": "goes on in the background",
        "(": "groups commands",
        ")": "groups commands",
    }.get(operator.text, "redirects")
    return needs_a_shell(f"{operator.text!r} {meaning}")


def _unwrapped(words: list[Word], notes: tuple[str, ...]) -> Call:
    if not words:
        raise NeedsAShell("It has no command; write one, or delete the line")
    first = words[0]
    if first.plain and re.match(r"\w+=", first.text):
        raise needs_a_shell(
            f"It sets the variable {first.text.partition('=')[0]}",
            "set it for the worker, and name it in JOBS_PROGRAM_ENVIRONMENT or "
            "JOBS_COMMAND_ENVIRONMENT",
        )
    if first.plain and first.text in _OF_THE_SHELL:
        raise needs_a_shell(f"{first.text!r} is a word of the shell")
    texts = [word.text for word in words]
    match PurePath(first.text).name:
        case "exec" if first.plain:
            return _unwrapped(words[1:], notes)
        case "nice" | "ionice" as name:
            rest = _after_options(words, flags="t", values="ncpPu" if name == "ionice" else "n")
            return _unwrapped(rest, (*notes, f"{name} is left out: a job has no priority"))
        case "timeout":
            return _timeout(words, notes)
        case "flock":
            return _flock(words, notes)
    return Call(words=tuple(texts), notes=notes)


def _after_options(words: list[Word], *, flags: str, values: str) -> list[Word]:
    """Give the words behind a wrapper and its options; those in `values` take the next word."""
    left = words[1:]
    while left and left[0].text.startswith("-") and left[0].text != "-":
        option = left.pop(0).text
        if option == "--":
            break
        known = re.fullmatch(rf"-[{flags}]*[{values}](.*)|-[{flags}]+|-\d+|--[\w-]+(=.*)?", option)
        if known is None:
            raise NeedsAShell(
                f"{words[0].text} has an option {option!r} that is not understood; remove it"
            )
        if known.group(1) == "" and left:
            left.pop(0)
    return left


def _timeout(words: list[Word], notes: tuple[str, ...]) -> Call:
    rest = _after_options(words, flags="v", values="ks")
    span = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", rest[0].text) if rest else None
    if span is None:
        raise NeedsAShell("timeout has no span that is understood; write one, such as 30s")
    limit = timedelta(seconds=float(span[1]) * _UNITS[span[2]])
    call = _unwrapped(rest[1:], notes)
    if not limit:
        return call  # as timeout has it: no limit
    return replace(call, limit=min(max(limit, timedelta(seconds=1)), _LONGEST_LIMIT))


def _flock(words: list[Word], notes: tuple[str, ...]) -> Call:
    options = [word.text for word in words[1 : len(words) - len(_flock_rest(words))]]
    rest = _flock_rest(words)
    if any(re.fullmatch(r"-\w*[su]\w*|--shared|--unlock", option) for option in options):
        raise NeedsAShell("flock takes a shared lock; remove -s, or write a script")
    if len(rest) < 2 or rest[0].text.isdigit():
        raise NeedsAShell("flock has no file and command; write flock -n FILE COMMAND")
    lock, *command = rest
    if len(lock.text) > LONGEST_KEY:
        raise NeedsAShell(f"flock has a path of {len(lock.text)} characters; shorten it")
    if command[0].text in ("-c", "--command"):
        if len(command) != 2:
            raise NeedsAShell("flock -c takes one command; write it in quotes")
        inner = read_command(command[1].text)
        call = replace(inner, notes=(*notes, *inner.notes))
    else:
        call = _unwrapped(command, notes)
    if call.lock:
        raise NeedsAShell("It takes two locks with flock; write one")
    gives_way = any(re.fullmatch(r"-\w*n\w*|--nb|--nonblock", option) for option in options)
    return replace(call, lock=lock.text, gives_way=gives_way)


def _flock_rest(words: list[Word]) -> list[Word]:
    return _after_options(words, flags="nxesuoFv", values="wE")
