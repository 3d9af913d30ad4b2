from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand


class Command(BaseCommand):
    help = "Heed no TERM, have a child and a grandchild that do not either, and never end"

    class ScheduledJob:
        timeout = timedelta(seconds=4)

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.stdout.write("before the limit")
        self.stdout.flush()
        pids = Path(os.environ["JOBS_TEST_PIDS"])
        for _ in range(2):
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")
            if os.fork():
                break
        else:
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(1)
