"""Settings of Beatkeeper: `JOBS_<NAME>` in Django's settings, read at each use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

PREFIX = "JOBS_"


class Conf:
    """Every setting with its default. Spans are timedeltas, sizes are bytes."""

    # beat
    TICK: timedelta = timedelta(seconds=1)  # longest sleep without a wake-up
    GRACE: timedelta = timedelta(seconds=15)  # a fire younger than this is simply due
    CLAIM_BATCH: int = 500  # targets per claiming transaction
    PUBLISH_BATCH: int = 500  # messages per pipelined publication
    CATCH_UP_RATE: float = 100.0  # catch-up runs per second, shared by all beats
    CATCH_UP_BURST: int = 10
    QUEUE_LIMIT: int = 1000  # runs of a target that may wait, for overlap "queue"
    SHADOW: bool = False  # watch the stock scheduler and fire nothing
    # where beats keep checkpoints: "redis", the absolute path of a file, or "" for nowhere
    SNAPSHOT: str = "redis"
    SNAPSHOT_EVERY: timedelta = timedelta(seconds=30)
    CLOCK_SKEW: timedelta = timedelta(seconds=5)  # further off, a host's clock is told of
    # running
    LEASE: timedelta | None = None  # None: 12 s, on SQLite 30 s
    LEASE_RENEWAL: timedelta = timedelta(seconds=3)
    INTERNAL_HARD_LIMIT: timedelta = timedelta(seconds=300)
    EXTERNAL_HARD_LIMIT: timedelta = timedelta(seconds=120)
    KILL_GRACE: timedelta = timedelta(seconds=10)  # between TERM and KILL
    # names and patterns of further variables that external management commands see
    COMMAND_ENVIRONMENT: tuple[str, ...] = ()
    PROGRAMS: tuple[str, ...] = ()  # absolute paths and patterns of what may run; (): nothing
    PROGRAM_ENVIRONMENT: tuple[str, ...] = ()  # names and patterns of what programs see besides
    PROGRAM_DIRECTORY: str = ""  # where programs run; "": the project's folder
    LOSSES_TO_POISON: int = 3
    OUTPUT_LIMIT: int = 1024 * 1024
    OUTPUT_HEAD: int = 256 * 1024
    FOLLOW_UP_DEPTH: int = 50
    RECORD_FOREIGN_TASKS: bool = False
    # telling
    LATE_AFTER: timedelta = timedelta(minutes=5)  # a fire so late alerts, or a tenth of the period
    LATE_EVERY: timedelta = timedelta(seconds=15)  # how often each process looks for late targets
    PING_OUTPUT: bool = False  # pings of ends carry the last 10 kB of output
    NOTIFY: tuple[str, ...] = ()  # addresses for jobs without recipients of their own
    NOTIFY_FROM: str = ""  # "": DEFAULT_FROM_EMAIL
    FLOWER_URL: str = "/flower/"  # link in the admin; "": none
    SITE_URL: str = ""  # start of links in mails, e.g. https://jobs.example.org
    METRICS_TOKEN: str = ""  # bearer token that may read /metrics; "": nobody by token
    # tests only: seconds added to the clock
    CLOCK: float = 0.0

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            return getattr(settings, PREFIX + name, getattr(Conf, name))
        return super().__getattribute__(name)

    @property
    def lease(self) -> timedelta:
        """How long a silent process is believed alive.

        Longer on SQLite, where a writer may wait for the whole busy timeout.
        """
        if self.LEASE is not None:
            return self.LEASE
        return timedelta(seconds=30 if connection.vendor == "sqlite" else 12)


def names() -> list[str]:
    return [name for name in vars(Conf) if name.isupper()]


conf = Conf()
