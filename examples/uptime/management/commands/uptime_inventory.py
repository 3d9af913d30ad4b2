"""Write an inventory to try out: endpoints on this machine, and on no other."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

MOST_HOSTS = 254  # 127.0.0.1 to 127.0.0.254


def lines(count: int, *, hosts: int, port: int) -> Iterator[tuple[str, str, str]]:
    """Yield (name, address, tags), in turn of each host."""
    for number in range(count):
        host = f"127.0.0.{number % hosts + 1}"
        yield f"sample {number:05}", f"http://{host}:{port}/?endpoint={number}", "sample"


class Command(BaseCommand):
    help = "Write a CSV file of sample endpoints for UPTIME_ENDPOINTS, all of them on 127.0.0.x"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int, help="How many endpoints")
        parser.add_argument("file", type=Path, help="Where to write them")
        parser.add_argument("--port", type=int, default=8001, help="Of all of them (8001)")
        parser.add_argument(
            "--hosts",
            type=int,
            default=1,
            help=f"Spread them over 127.0.0.1, ... (1, {MOST_HOSTS})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        count, hosts, port = options["count"], options["hosts"], options["port"]
        if count < 0 or not 1 <= hosts <= MOST_HOSTS or not 1 <= port <= 65535:
            raise CommandError(
                f"{count} endpoints on {hosts} hosts at port {port}: give 0 or more, on 1 to "
                f"{MOST_HOSTS} hosts, at a port from 1 to 65535"
            )
        with options["file"].open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("name", "address", "tags"))
            writer.writerows(lines(count, hosts=hosts, port=port))
        self.stdout.write(f"{count} endpoints: {options['file']}")
