from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand

from tests.testapp import oracle


class Command(BaseCommand):
    help = "Tell the oracle and print a line"

    class ScheduledJob:
        timeout = 1

    def handle(self, *args: Any, **options: Any) -> None:
        with oracle.telling_of_environment("scribble"):
            self.stdout.write("scribbled")
