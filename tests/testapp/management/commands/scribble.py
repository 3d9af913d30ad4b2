from __future__ import annotations

import os
from typing import Any

from django.core.management import BaseCommand

from tests.testapp import oracle


class Command(BaseCommand):
    help = "Tell the oracle and print a line"

    class ScheduledJob:
        timeout = 1

    def handle(self, *args: Any, **options: Any) -> None:
        with oracle.telling(
            run=os.environ["RUN_ID"],
            job="scribble",
            scheduled_at=os.environ["SCHEDULED_AT"],
            attempt=int(os.environ["ATTEMPT"]),
            token=int(os.environ["FENCING_TOKEN"]),
        ):
            self.stdout.write("scribbled")
