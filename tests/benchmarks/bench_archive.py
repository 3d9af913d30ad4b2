"""Archiving and deleting 200,000 old runs while others claim, start and end runs.

    python -m tests.benchmarks.bench_archive [postgres|sqlite] [RUNS]

On a PostgreSQL of its own that flushes each commit to the disk, or on SQLite. A batch's time is
that for which it held locks. The rival is a process that triggers, starts and ends one run after
another; its times say what others feel of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from multiprocessing import get_context
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from tests.benchmarks.installation import installation, machine

RUNS = 200_000
RUNS_OF_A_TARGET = 100
FAILED_EVERY, RETRIED_EVERY, FOLLOWED_EVERY = 20, 30, 10
OUTPUT = "a line of what a job writes\n" * 40
GOAL_MS = 100
ALONE = 300  # runs of the rival before the pass
BULK = 5000


def main(database: str = "postgres", runs: str = str(RUNS)) -> None:
    with installation(database=database, with_valkey=True) as folder:
        measure(folder / "archive", int(runs))


def measure(archive: Path, number: int) -> None:
    from django.conf import settings
    from django.db import connection

    from scheduling import clock
    from scheduling.archive import passes
    from scheduling.archive.rules import rule_of
    from scheduling.models import ArchiveFile, Run

    write = sys.stdout.write
    archive.mkdir()
    settings.JOBS_ARCHIVE = str(archive)
    now = clock.now()
    began = perf_counter()
    fill(number, now)
    write(f"{number:,} runs made in {perf_counter() - began:.0f} s\n")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    alone = work(ALONE)
    # A process of its own: a thread would wait for this one's interpreter, too.
    connection.close()
    processes = get_context("fork")
    over, told = processes.Event(), processes.SimpleQueue()
    rival = processes.Process(target=lambda: told.put(work(None, over)))
    rival.start()
    batches: list[tuple[int, float]] = []
    began = perf_counter()
    report = passes.prune(rule_of(now=now), watch=lambda *batch: batches.append(batch))
    took = perf_counter() - began
    over.set()
    beside = told.get()
    rival.join()
    times = [seconds for _, seconds in batches]
    write(
        f"{machine()}, {connection.vendor}\n\n"
        f"{report.archived:,} runs archived in {len(report.files)} files "
        f"({sum(file.size for file in report.files) / 2**20:.1f} MiB) and {report.deleted:,} "
        f"deleted in {took:.1f} s: {report.deleted / took:,.0f} runs/s; {Run.objects.count():,} "
        "rows stay\n\n"
        f"{'milliseconds':30}{'median':>9}{'p95':>9}{'p99':>9}{'longest':>9}{'number':>9}\n"
        f"{row('a batch holds its locks', times)}"
        f"{row('a run of the rival, alone', alone)}"
        f"{row('a run of the rival, beside it', beside)}\n"
        f"Rows in a batch: median {median(rows for rows, _ in batches):g}, most "
        f"{max(rows for rows, _ in batches)}\n"
        f"Files without runs left to delete: {ArchiveFile.objects.exclude(deleted_at=None).count()}"
        f" of {len(report.files)}\n"
        f"Goal: each batch at most {GOAL_MS} ms: "
        f"{'met' if max(times) * 1e3 <= GOAL_MS else 'MISSED'}\n"
    )


def row(name: str, times: list[float]) -> str:
    cuts = quantiles(times, n=100)
    figures = (median(times), cuts[94], cuts[98], max(times))
    shown = "".join(f"{seconds * 1e3:9.1f}" for seconds in figures)
    return f"{name:30}{shown}{len(times):9}\n"


def fill(number: int, now: datetime) -> None:
    """Make old runs of many targets, some failed, with a mail, earlier attempts and follow-ups."""
    from scheduling.models import Attempt, Cause, Job, Notification, Run, State, Target
    from scheduling.models.system import Event

    job = Job.objects.create(name="old", kind="task", task="tests.testapp.jobs.note")
    targets = Target.objects.bulk_create(
        Target(job=job, key=f"target {index}") for index in range(number // RUNS_OF_A_TARGET)
    )

    def rows() -> Iterator[Run]:
        last: Run | None = None
        for index in range(number):
            at = now - timedelta(days=300) + timedelta(days=200) * index / number
            failed = index % FAILED_EVERY == 0
            follows = last if index % FOLLOWED_EVERY == 0 else None
            last = Run(
                job=job,
                target=targets[index % len(targets)],
                name=job.name,
                key=f"target {index % len(targets)}",
                cause=Cause.MANUAL,
                state=State.FAILED if failed else State.SUCCEEDED,
                scheduled_at=at,
                created_at=at,
                started_at=at,
                ended_at=at + timedelta(seconds=2),
                output=OUTPUT,
                output_bytes=len(OUTPUT),
                parent=follows,
                root=follows,
            )
            yield last

    made = rows()
    while some := list(islice(made, BULK)):
        Run.objects.bulk_create(some)
        mails = [run for run in some if run.state == State.FAILED]
        Notification.objects.bulk_create(
            Notification(run=run, name=job.name, event=Event.FAILING, created_at=run.created_at)
            for run in mails
        )
        Attempt.objects.bulk_create(
            Attempt(run=run, number=1, ended_at=run.created_at, reason="retry", output=OUTPUT)
            for run in some[::RETRIED_EVERY]
        )


def work(number: int | None, over: Signal | None = None) -> list[float]:
    """Trigger, start and end runs, one after the other; give the seconds that each took."""
    from scheduling import clock, runs
    from scheduling.models import Job, State

    job, _ = Job.objects.get_or_create(
        name="live", defaults={"kind": "task", "task": "tests.testapp.jobs.note"}
    )
    runs.adopt(job, now=clock.now())
    result = runs.Result(state=State.SUCCEEDED)
    times: list[float] = []
    while not (over and over.is_set()) and (number is None or len(times) < number):
        began = perf_counter()
        run = runs.trigger(job, by="rival", now=clock.now())
        started = runs.start(run.pk, 1, worker="w", now=clock.now())
        assert isinstance(started, runs.Started)
        token = started.run.token
        runs.finish(run.pk, 1, token=token, result=result, now=clock.now())
        times.append(perf_counter() - began)
    return times


if __name__ == "__main__":
    main(*sys.argv[1:])
