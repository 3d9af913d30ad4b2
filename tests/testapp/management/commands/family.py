from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandParser

DEAF = "trap '' TERM; exec sleep 1000"
# Its parent ends at once, and it has no terminal, no session and no pipe of the job's.
GONE = "setsid sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!"


class Command(BaseCommand):
    help = "Have two children, one that heeds no TERM and one that has left, and never end"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--deaf", action="store_true", help="heed no TERM either")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["deaf"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.stdout.write("before the limit")
        self.stdout.flush()
        children = [
            subprocess.Popen(words)
            for words in (["sleep", "1000"], ["sleep", "1000"], ["sh", "-c", DEAF])
        ]
        gone = subprocess.run(["sh", "-c", GONE], stdout=subprocess.PIPE, check=True)
        pids = [os.getpid(), *(child.pid for child in children), int(gone.stdout)]
        file = Path(os.environ["JOBS_TEST_PIDS"], os.environ["RUN_ID"])
        file.write_text("".join(f"{pid}\n" for pid in pids))
        while True:
            signal.pause()
