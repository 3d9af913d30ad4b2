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
    # feeding
    FEED_BATCH: int = 1000  # targets picked per transaction
    FEED_EVERY: timedelta = timedelta(seconds=1)  # between two looks at a job that lacks free slots
    FEED_IDLE: timedelta = timedelta(seconds=60)  # ... at one that has nothing to pick
    FEED_TRICKLE: int = 10  # runs that are let out while the length of a queue is unknown
    FEED_WHEN_UNKNOWN: str = "trickle"  # or "open": as if the broker's queue were empty
    PAUSE_AFTER: int = 3  # results in a row that find nothing pause a target that is fed
    # sources
    LIST_BATCH: int = 1000  # resources written per transaction
    VANISH_LIMIT: float = 0.5  # a full listing that misses more than this fraction retires nothing
    # archive
    ARCHIVE: str = ""  # absolute folder of ended runs as JSON lines; "": runs are only deleted
    RETENTION: timedelta | None = timedelta(days=90)  # ended runs are kept so long; None: for ever
    KEEP_GOOD: int = 200  # and the newest of a job with one target, whatever their age
    KEEP_FAILED: int = 200
    KEEP_PER_TARGET: int = 3  # of each kind, for jobs with many targets
    PRUNE_BATCH: int = 500  # runs deleted per transaction
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
    # key of a lock -> its seats, where its resource names no number; others have one
    SEATS: dict[str, int] = {}
    SERIAL: bool = False  # no two runs at once, of whatever jobs; services are left out
    WARM_START: bool = True  # external management commands start from a warm process
    RUN_AS: str = ""  # the user that external processes run as; "": the worker's own
    MEMORY_LIMIT: int | None = None  # bytes for the processes of an external run; None: no limit
    OUTPUT_EVERY: timedelta = timedelta(seconds=2)  # how often a running run's output is stored
    HOOK_LIMIT: timedelta = timedelta(seconds=10)  # for each call of should_run, ready, status
    # services
    SERVICE_QUEUE: str = "services"
    SERVICE_DELAY: timedelta = timedelta(seconds=1)  # before a service is started again, doubling
    SERVICE_DELAY_MAX: timedelta = timedelta(minutes=5)
    # circuits
    CIRCUIT_EVERY: timedelta = timedelta(seconds=30)  # between two looks at status()
    CIRCUIT_DELAY: timedelta = timedelta(seconds=30)  # before ready() is asked again, doubling
    CIRCUIT_DELAY_MAX: timedelta = timedelta(minutes=10)
    OUTPUT_LIMIT: int = 1024 * 1024
    OUTPUT_HEAD: int = 256 * 1024
    FOLLOW_UP_DEPTH: int = 50
    FAN_OUT: int = 10_000  # follow-up runs of one run
    RESULT_LIMIT: int = 16 * 1024  # bytes of a returned value that are kept for follow-ups
    # names and patterns of Celery tasks that are no jobs and whose history is kept
    RECORD_FOREIGN_TASKS: tuple[str, ...] = ()
    DEAD_LETTERS: int = 10_000  # dead letters kept, the newest
    # telling
    LATE_AFTER: timedelta = timedelta(minutes=5)  # a fire so late alerts, or a tenth of the period
    LATE_EVERY: timedelta = timedelta(seconds=15)  # how often each process looks for late targets
    PING_OUTPUT: bool = False  # pings of ends carry the last 10 kB of output
    NOTIFY: tuple[str, ...] = ()  # whom to tell of jobs without recipients of their own
    # name -> address of a service (https://appriseit.com), or a dict: see docs/notifications.md
    CHANNELS: dict[str, Any] = {}
    SEND_LIMIT: timedelta = timedelta(seconds=10)  # for one mail or one call of a channel
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
