"""The words of a plain shell command, as sh would split them; or why it takes a shell. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scheduling.errors import SchedulingError

_OPERATORS = ("&>>", "&&", "||", "&>", ">&", "<&", "<<", ">>", ";", "|", "&", "<", ">", "(", ")")
_GLOB = "*?["
_ADVICE = "put the line into a script and schedule that"


class NeedsAShell(SchedulingError, ValueError):
    """The command is for a shell; put the line into a script and schedule that."""


@dataclass(frozen=True, slots=True)
class Word:
    """`plain`: nothing of it was quoted."""

    text: str
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Operator:
    """`number`: of the file descriptor before a redirection, "" for none."""

    text: str
    number: str = ""


Token = Word | Operator


def needs_a_shell(what: str, advice: str = _ADVICE) -> NeedsAShell:
    return NeedsAShell(f"{what}, which takes a shell; {advice}")


def tokens(command: str) -> list[Token]:
    """Split a command into words and operators. Raises NeedsAShell for what sh would expand."""
    found: list[Token] = []
    position = 0
    while position < len(command):
        character = command[position]
        if character in " \t\n":
            position += 1
        elif character == "#":
            break  # a comment
        elif operator := _operator_at(command, position):
            found.append(Operator(operator))
            position += len(operator)
        else:
            word, position = _word_at(command, position)
            if word.plain and word.text.isdigit() and command[position : position + 1] in (*"<>",):
                operator = _operator_at(command, position)
                found.append(Operator(operator, number=word.text))
                position += len(operator)
            else:
                found.append(word)
    return found


def _operator_at(command: str, position: int) -> str:
    return next((each for each in _OPERATORS if command.startswith(each, position)), "")


def _word_at(command: str, start: int) -> tuple[Word, int]:
    """Read one word; give it and where it ends."""
    text: list[str] = []
    position, plain = start, True
    while position < len(command):
        character = command[position]
        if character in " \t\n" or _operator_at(command, position):
            break
        if character in "'\"\\":
            plain = False
            part, position = _quoted_at(command, position)
            text.append(part)
            continue
        _refuse_expansion(command, position)
        # A lone bracket is sh's test; what follows it says more than this would.
        if character in _GLOB and command[start : start + 2] != "[ ":
            raise needs_a_shell(f"{character!r} stands for names of files")
        if character == "~" and position == start:
            raise needs_a_shell("'~' stands for a home directory", "write the directory")
        text.append(character)
        position += 1
    word = "".join(text)
    if plain and re.search(r"\{[^{}]*(,|\.\.)[^{}]*\}", word):
        raise needs_a_shell(f"{word!r} stands for several words")
    return Word(word, plain), position


def _quoted_at(command: str, start: int) -> tuple[str, int]:
    """Read what the quote or backslash at `start` covers."""
    quote = command[start]
    if quote == "\\":
        if start + 1 == len(command):
            raise NeedsAShell("It ends in a backslash, and no line goes on in the next; correct it")
        return command[start + 1 : start + 2], start + 2
    text: list[str] = []
    position = start + 1
    while position < len(command):
        character = command[position]
        if character == quote:
            return "".join(text), position + 1
        if quote == '"':
            _refuse_expansion(command, position)
            if character == "\\" and command[position + 1 : position + 2] in (*'$`"\\',):
                position += 1
                character = command[position]
        text.append(character)
        position += 1
    raise NeedsAShell(f"The quote {quote} is not closed; correct the line")


def _refuse_expansion(command: str, position: int) -> None:
    if command[position] == "`":
        raise needs_a_shell("It runs a command between backticks")
    if command[position] == "$":
        variable = re.match(r"\$(\w+|\{\w+\}|.?)", command[position:])
        raise needs_a_shell(f"{variable.group() if variable else '$'!r} stands for something else")
