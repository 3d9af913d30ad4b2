"""What a line of a crontab runs, as columns of a job."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from django.core.management import BaseCommand, get_commands, load_command_class

from scheduling.conf import conf
from scheduling.crontab_commands import Call
from scheduling.errors import InvalidDeclaration
from scheduling.models import Job
from scheduling.models.job import Kind
from workers import commands, programs

_PYTHON = re.compile(r"python[\d.]*")
_INTERPRETER = re.compile(r"(python|perl|ruby|php|node|bash|sh)[\d.]*")
# Options of Python that change nothing for a job.
_PYTHON_FLAGS = re.compile(r"-[BEIOPsSu]+")
_LONGEST_BASE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """`base`: what the job may be called by; only names of files, since arguments may be secret."""

    kind: Kind
    command: str
    args: list[str]
    kwargs: dict[str, Any]
    base: str
    notes: tuple[str, ...] = ()

    def columns(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "command": self.command,
            "internal": False,
            "args": self.args,
            "kwargs": self.kwargs,
        }


def fingerprint(call: Call, number: int) -> str:
    """Name what a call runs, whatever wraps it and whenever it fires; `number` tells equals apart.

    A job is known by it from one import to the next.
    """
    managed = management_words(call)
    words = ["manage.py", *managed] if managed is not None else [call.folder, *call.words]
    return hashlib.sha256(json.dumps([*words, number]).encode()).hexdigest()[:12]


def work_of(call: Call) -> Work:
    """Give what a call runs. Raises InvalidDeclaration, with what to do instead."""
    managed = management_words(call)
    work = _program(call) if managed is None else _management_command(call, managed)
    longest = Job._meta.get_field("command").max_length
    if longest is not None and len(work.command) > longest:
        raise InvalidDeclaration(
            f"{work.command!r} has {len(work.command)} characters, more than {longest}; "
            "shorten the path"
        )
    return work


def management_words(call: Call) -> list[str] | None:
    """The words behind manage.py, or None if it is another program that is called."""
    words = list(call.words)
    if _PYTHON.fullmatch(PurePath(words[0]).name):
        words.pop(0)
        while words and _PYTHON_FLAGS.fullmatch(words[0]):
            words.pop(0)
        if words[:2] == ["-m", "django"]:
            return words[2:]
    if words and PurePath(words[0]).name in ("manage.py", "django-admin"):
        return words[1:]
    return None


def _management_command(call: Call, words: Sequence[str]) -> Work:
    if not words:
        raise InvalidDeclaration("manage.py is called without a command; write one")
    name, *rest = words
    if name not in get_commands():
        near = difflib.get_close_matches(name, get_commands(), n=1)
        raise InvalidDeclaration(
            f"This project has no management command {name!r}; "
            + (f"is it {near[0]!r}?" if near else "is its app in INSTALLED_APPS?")
        )
    args, kwargs = arguments_of(name, rest)
    return Work(
        kind=Kind.COMMAND,
        command=name,
        args=args,
        kwargs=kwargs,
        base=_slug(name),
        notes=_other_project(call),
    )


def _other_project(call: Call) -> tuple[str, ...]:
    script = next((word for word in call.words if PurePath(word).name == "manage.py"), "")
    folder = Path(call.folder, script).parent
    if not folder.is_absolute() or folder.resolve() == commands.folder().resolve():
        return ()
    return (f"{folder}/manage.py is taken for this project's, {commands.folder()}/manage.py",)


def arguments_of(command: str, words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Give words of a command line as the arguments of a job, which mean the same to the command.

    Raises InvalidDeclaration if the command does not take them, or if they cannot be kept so.
    """
    meant = _parsed(command, words)
    left = list(words)
    args: list[str] = []
    kwargs: dict[str, Any] = {}
    while left:
        word = left.pop(0)
        if word == "--":
            args += left
            break
        if not word.startswith("--"):
            args.append(word)
            continue
        option, equals, value = word.partition("=")
        if not equals and left:
            # Its value, if a = between them says the same.
            joined = [*words[: -len(left) - 1], f"{word}={left[0]}", *left[1:]]
            if _parsed(command, joined, or_none=True) == meant:
                equals, value = "=", left.pop(0)
        _add(kwargs, option.removeprefix("--").replace("-", "_"), value if equals else True)
    if short := [arg for arg in args if re.fullmatch(r"-[A-Za-z].*", arg)]:
        raise InvalidDeclaration(
            f"{short[0]!r} is a short option; write its long form, such as --verbosity=2"
        )
    written = commands.argv(command, args, kwargs)[1:]
    if _parsed(command, written, or_none=True) != meant:
        raise InvalidDeclaration(
            f"The arguments of {command} would become {' '.join(written)!r}, which means "
            "something else; declare the job in the command's class"
        )
    return args, kwargs


def _add(kwargs: dict[str, Any], name: str, value: Any) -> None:
    if name not in kwargs:
        kwargs[name] = value
    elif isinstance(kwargs[name], list):
        kwargs[name].append(value)
    else:
        kwargs[name] = [kwargs[name], value]


def _parsed(command: str, words: Sequence[str], *, or_none: bool = False) -> Namespace | None:
    try:
        app = get_commands()[command]
        loaded = app if isinstance(app, BaseCommand) else load_command_class(app, command)
        return loaded.create_parser("manage.py", command).parse_args(list(words))
    except (Exception, SystemExit) as error:  # the team's code: it may raise anything
        if or_none:
            return None
        raise InvalidDeclaration(
            f"manage.py {command} does not take these arguments: "
            f"{str(error).removeprefix('Error: ')}; correct the line"
        ) from error


def _program(call: Call) -> Work:
    program, *args = call.words
    where = Path(conf.PROGRAM_DIRECTORY or commands.folder())
    if call.folder and Path(call.folder).resolve() != where.resolve():
        raise InvalidDeclaration(
            f"It runs in {call.folder!r}, and programs of jobs run in {str(where)!r} "
            "(JOBS_PROGRAM_DIRECTORY); put the line into a script and schedule that"
        )
    if call.folder and "/" in program:
        program = str(Path(call.folder, program))
    programs.allowed_file(program)
    return Work(kind=Kind.PROGRAM, command=program, args=args, kwargs={}, base=_base(program, args))


def _base(program: str, args: Sequence[str]) -> str:
    """The program's name or, of a script that an interpreter runs, the script's."""
    script = next((arg for arg in args if not arg.startswith("-")), "")
    if _INTERPRETER.fullmatch(PurePath(program).name) and PurePath(script).suffix:
        program = script
    return _slug(PurePath(program).stem)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:_LONGEST_BASE] or "job"
