"""`manage.py jobs VERB`: the whole of Beatkeeper from the command line."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from typing import Any

from django import db
from django.core.management.base import BaseCommand, CommandError, CommandParser

from scheduling.errors import SchedulingError
from scheduling.management.verbs import VERBS
from scheduling.management.verbs.base import Answer, Verb

PROBLEM = 1
BAD_INPUT = 2
PIPE_CLOSED = 141  # as of a program that SIGPIPE ended


class Command(BaseCommand):
    """Parse, ask one verb, print its answer.

    With --json exactly one document goes to stdout. Exit code 0; 1 if a problem was found; 2 for
    bad input, with {"error": text}.
    """

    help = "See and steer scheduled work. Exit code 1: a problem was found; 2: bad input."
    # Some verbs work without a database, and checks print.
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        # The parser is to raise its errors, so that --json can put them into words for programs.
        parser.called_from_command_line = False
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for verb in VERBS:
            own: ArgumentParser = verbs.add_parser(
                verb.name, help=verb.help, description=verb.help, allow_abbrev=False
            )
            own.add_argument("--json", action="store_true", help="one JSON document, for programs")
            own.set_defaults(answer=verb)
            verb.add_arguments(own)

    def run_from_argv(self, argv: list[str]) -> None:
        """Print the errors of the parser as those of a verb."""
        try:
            self.require_text(argv)
            super().run_from_argv(argv)
        except CommandError as error:
            # Django lets only those through that its parser raises.
            message = str(error).removeprefix("Error: ")
            if "--json" in argv:
                self.print_document({"error": message})
            self.stderr.write(f"{message}\nSee manage.py jobs --help")
            sys.exit(BAD_INPUT)
        except BrokenPipeError:
            # The reader (`| head`) has had enough; Python must not flush to it once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)

    def require_text(self, argv: list[str]) -> None:
        """Refuse bytes that are no UTF-8: neither the database nor a document takes them."""
        for word in argv:
            if not word.isascii() and word.encode(errors="replace").decode() != word:
                raise CommandError(f"{word!a} is not text in UTF-8; correct it")

    def handle(self, *args: Any, **options: Any) -> None:
        verb: Verb = options["answer"]
        as_json: bool = options["json"]
        try:
            if as_json:
                # Code of the team's, imported or called here, may print; self.stdout is untouched.
                with redirect_stdout(sys.stderr):
                    answer = verb.answer(Namespace(**options), self.ignore)
            else:
                answer = verb.answer(Namespace(**options), self.say)
        except SchedulingError as error:
            raise self.failure(str(error), code=BAD_INPUT, as_json=as_json) from error
        except db.Error as error:
            raise self.failure(
                f"The database cannot be used: {str(error).strip()}; is DATABASE_URL right, "
                "and has `manage.py migrate` run?",
                code=PROBLEM,
                as_json=as_json,
            ) from error
        self.print_answer(answer, as_json=as_json)
        if not answer.ok:
            sys.exit(PROBLEM)

    def print_answer(self, answer: Answer, *, as_json: bool) -> None:
        if as_json:
            self.print_document(answer.data)
        elif answer.text:
            self.say(answer.text)

    def print_document(self, document: Any) -> None:
        self.say(json.dumps(document, ensure_ascii=False))

    def failure(self, message: str, *, code: int, as_json: bool) -> CommandError:
        if as_json:
            self.print_document({"error": message})
        return CommandError(message, returncode=code)

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def ignore(self, line: str) -> None:
        """Keep stdout for the document."""
