from __future__ import annotations

import sys
from typing import Any

from django.core.management import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Do what a piece of Python says"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("code")
        parser.add_argument("--word", action="append", default=[])

    def handle(self, *args: Any, code: str, word: list[str], **options: Any) -> None:
        exec(code, {"command": self, "words": word, "sys": sys})
