from __future__ import annotations

import os
import time
from typing import Any

from django.core.management import BaseCommand, CommandParser

BLOCK = 64 * 1024
STDOUT, STDERR = 1, 2


class Command(BaseCommand):
    help = "Write very much in one of several shapes, then end with exit code 3"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shape", choices=("text", "empty", "line", "both"), default="text")
        parser.add_argument("--megabytes", type=int, default=0)
        parser.add_argument("--seconds", type=float, default=0.0, help="not faster than this")

    def handle(self, *args: Any, **options: Any) -> None:
        line = b"".join(b"%07d and so on and so on ...\n" % n for n in range(BLOCK // 32))
        block = {"empty": b"\n" * BLOCK, "line": b"x" * BLOCK}.get(options["shape"], line)
        descriptors = (STDOUT, STDERR) if options["shape"] == "both" else (STDOUT,)
        write(b"first words\n", STDOUT)
        began = time.monotonic()
        blocks = options["megabytes"] * 1024 * 1024 // BLOCK
        for n in range(blocks):
            write(block, descriptors[n % len(descriptors)])
            early = began + options["seconds"] * n / blocks - time.monotonic()
            time.sleep(max(0.0, early))
        write(b"\nlast words\n", STDOUT)
        raise SystemExit(3)


def write(data: bytes, descriptor: int) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
