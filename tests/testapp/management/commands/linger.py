from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandParser

from tests.testapp import oracle


class Command(BaseCommand):
    help = "Tell the oracle ten times a second that it is alive, until a file exists"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--until", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        until = Path(options["until"])
        with oracle.telling_of_environment():
            while not until.exists():
                oracle.write("alive", **oracle.facts())
                time.sleep(0.1)
