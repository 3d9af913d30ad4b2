"""Settings of the example: `UPTIME_<NAME>` in Django's settings, read at each use."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from scheduling.conf import conf as jobs

PREFIX = "UPTIME_"


class Conf:
    """Every setting with its default."""

    WATCH_SELF: bool = True  # the first migration adds endpoints for the installation itself
    PROBE_TIMEOUT: timedelta = timedelta(seconds=10)  # of one probe, from first to last byte
    KEEP: timedelta = timedelta(days=30)  # how long measurements are kept and counted
    RECIPIENTS: tuple[str, ...] = ()  # addresses for alerts; see `recipients`
    ENDPOINTS: str | Path = ""  # a CSV file of endpoints; "": none
    CADENCE: str = "adaptive 1h between 5m and 1d"  # how often those are checked
    REPORT: str | Path = ""  # "": uptime-report.html beside the database

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            return getattr(settings, PREFIX + name, getattr(Conf, name))
        return super().__getattribute__(name)

    def recipients(self) -> tuple[str, ...]:
        """Who gets alerts: UPTIME_RECIPIENTS, else those of JOBS_NOTIFY, else root.

        Somebody, so that out of the box, where mails go to the console, alerts are seen.
        """
        if self.RECIPIENTS or jobs.NOTIFY:
            return tuple(self.RECIPIENTS)
        return ("root@localhost",)

    def report(self) -> Path:
        return Path(self.REPORT or Path(settings.VAR_DIR) / "uptime-report.html")


conf = Conf()
