"""Write the uptime report."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from examples.uptime import report
from examples.uptime.conf import conf
from scheduling import clock


class Command(BaseCommand):
    help = "Write a report about all endpoints as an HTML file"

    class ScheduledJob:
        scheduled_interval = timedelta(minutes=5)
        internal = False  # a process of its own: killed as a whole at its limit
        timeout = timedelta(minutes=1)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--file", type=Path, default=None, help="Where to write it (default: UPTIME_REPORT)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"] or conf.report()
        endpoints = report.standing()
        report.write(path, report.render(endpoints, now=clock.now()))
        failing = report.failing(endpoints)
        self.stdout.write(f"{len(endpoints)} endpoints, {failing} failing: {path}")
