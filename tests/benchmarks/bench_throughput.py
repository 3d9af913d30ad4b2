"""One hourly job over a million targets: does one beat with one worker keep up, and catch up?

    python -m tests.benchmarks.bench_throughput --seconds 600 --without-beat 300

Real processes on a PostgreSQL and a Valkey of their own. The job does nothing, so that what is
measured is ours: the claim, the message, the worker's guard, the recorded end. The database
flushes each commit to the disk, and has a quarter of a small machine's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

import django
import psutil

from tests.benchmarks.installation import machine
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.acceptance.rig import Process, Rig

PERIOD = timedelta(hours=1)
# A run later than this is behind.
GOAL = timedelta(seconds=15)
write = sys.stdout.write


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    options = parse()
    from tests.services import FOLDER

    os.environ.setdefault("JOBS_TEST_MAIL", str(FOLDER / "mail"))
    os.environ.setdefault("JOBS_VAR", str(FOLDER))
    django.setup()
    with installation() as (rig, processes):
        make_targets(options.targets)
        write(f"{machine()}\n{options.targets:,} targets, each hour once: ")
        write(f"{options.targets / PERIOD.total_seconds():.0f} fires/s\n\n")
        beat, worker = rig.beat(), rig.worker(concurrency=options.concurrency)
        processes |= {"beat": beat.popen.pid, "worker": worker.popen.pid}
        wait_for(lambda: ended() > 0, timeout=30, message="the first run has ended")
        keep_up(processes, options.seconds)
        if options.without_beat:
            catch_up(rig, beat, processes, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--targets", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60, help="for how long it is to keep up")
    parser.add_argument("--without-beat", type=float, default=0, help="seconds; 0: leave it out")
    parser.add_argument(
        "--rewind",
        action="store_true",
        help="move the cursors back instead of waiting while there is no beat",
    )
    parser.add_argument("--patience", type=float, default=1800, help="seconds for catching up")
    parser.add_argument("--concurrency", type=int, default=2, help="processes of the worker")
    return parser.parse_args()


@contextlib.contextmanager
def installation() -> Iterator[tuple[Rig, dict[str, int]]]:
    """Give servers and their process ids, and nothing running on them yet."""
    from tests.acceptance.rig import Rig, using_database
    from tests.services import FOLDER, Postgres, Valkey

    postgres, valkey = Postgres(FOLDER, is_durable=True), Valkey(FOLDER)
    postgres.start()
    valkey.start()
    try:
        postgres.execute("ALTER SYSTEM SET shared_buffers = '1GB'")
        postgres.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
        postgres.stop()
        postgres.start()
        url = postgres.create("throughput")
        rig = Rig(FOLDER, url, valkey)
        rig.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
        rig.manage("migrate", "--verbosity", "0")
        try:
            with using_database(url):
                assert postgres.process is not None
                assert valkey.process is not None
                yield rig, {"postgres": postgres.process.pid, "valkey": valkey.process.pid}
        finally:
            rig.stop()
            for name, text in rig.logs():
                if "Traceback" in text or sys.exc_info()[0]:
                    write(f"\n--- {name} ---\n{text}\n")
    finally:
        valkey.kill()
        postgres.stop()


def make_targets(number: int) -> None:
    """Give the job its targets, as if they had fired for long: each cursor is what the schedule
    names for it.
    """
    from django.db import connection

    from scheduling.models import Job, Target
    from scheduling.runs.cursors import schedule_of

    job = Job.objects.get(name__endswith="nothing")
    target, now = Target(job=job), datetime.now(UTC) + timedelta(seconds=15)
    schedule = schedule_of(target, job)
    template = Target.objects.create(job=job, key="template")
    fields = [each for each in Target._meta.concrete_fields if not each.primary_key]
    columns = [str(each.column) for each in fields]
    values = {"key": "fires.key", "next_fire_at": "fires.fire"}
    chosen = ", ".join(values.get(column, f"template.{column}") for column in columns)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE fires (key text, fire timestamptz)")
        with cursor.copy("COPY fires FROM STDIN") as copy:
            for at in range(number):
                target.key = f"{at:07}"
                copy.write_row((target.key, schedule.next(now, name=target.name)))
        cursor.execute(
            f"INSERT INTO scheduling_target ({', '.join(columns)}) SELECT {chosen}"
            f" FROM fires, scheduling_target template WHERE template.id = {template.pk}"
        )
        template.delete()
        cursor.execute("VACUUM ANALYZE scheduling_target")


# --- what is measured -----------------------------------------------------------------------------


def keep_up(processes: dict[str, int], seconds: float) -> None:
    used, began, at = cpu(processes), monotonic(), moment()
    wait_for(lambda: monotonic() - began >= seconds, timeout=seconds + 5, interval=1.0)
    took, after = monotonic() - began, cpu(processes)
    rates = row(
        "SELECT count(*) FILTER (WHERE created_at >= %(at)s),"
        " count(*) FILTER (WHERE started_at >= %(at)s),"
        " count(*) FILTER (WHERE ended_at >= %(at)s AND state = 'succeeded'),"
        " count(*) FILTER (WHERE ended_at IS NULL),"
        " count(*) FILTER (WHERE state NOT IN ('queued', 'running', 'succeeded'))"
        " FROM scheduling_run WHERE coalesce(ended_at, started_at, created_at) >= %(at)s",
        at=at,
    )
    lags = row(
        "SELECT percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP"
        " (ORDER BY extract(epoch FROM ended_at - scheduled_at))"
        " FROM scheduling_run WHERE ended_at >= %(at)s AND state = 'succeeded'",
        at=at,
    )[0] or (0, 0, 0)
    due = row("SELECT count(*) FROM scheduling_target WHERE next_fire_at <= clock_timestamp()")[0]
    write(f"Keeping up for {took:.0f} s\n")
    for name, count in zip(("claimed", "started", "ended well"), rates, strict=False):
        write(f"  {name + ' per second':28}{count / took:10.1f}\n")
    for name, lag in zip(("median", "p99", "longest"), lags, strict=True):
        write(f"  {'fire to end, ' + name + ', s':28}{lag:10.2f}\n")
    write(f"  {'due, not yet claimed':28}{due:10}\n  {'open at the end':28}{rates[3]:10}\n")
    write(f"  {'ended otherwise':28}{rates[4]:10}\n")
    tell_cpu(used, after, took, rates[2])


def catch_up(
    rig: Rig, beat: Process, processes: dict[str, int], options: argparse.Namespace
) -> None:
    away = options.without_beat
    wait_for(lambda: behind() < GOAL, timeout=60, message="it keeps up before the beat stops")
    beat.stop()
    began = monotonic()
    if options.rewind:
        rewind(timedelta(seconds=away))
    else:
        wait_for(lambda: monotonic() - began >= away, timeout=away + 5, interval=1.0)
    missed = row("SELECT count(*) FROM scheduling_target WHERE next_fire_at <= now()")[0]
    write(f"\nWithout a beat for {away:.0f} s: {missed:,} targets are due\n")
    again = rig.beat("beat-again")
    processes = processes | {"beat": again.popen.pid}
    used, began, at = cpu(processes), monotonic(), moment()
    wait_for(lambda: due_since() < GOAL, timeout=options.patience, interval=0.5)
    claimed = monotonic() - began
    write(f"  {'all claimed after, s':28}{claimed:10.1f}\n")
    wait_for(lambda: behind() < GOAL, timeout=options.patience, interval=1.0)
    took, after = monotonic() - began, cpu(processes)
    count = row("SELECT count(*) FROM scheduling_run WHERE ended_at >= %(at)s", at=at)[0]
    write(f"  {'no run late after, s':28}{took:10.1f}\n")
    write(f"  {'ended per second meanwhile':28}{count / took:10.1f}\n")
    lost = row("SELECT count(*) FROM scheduling_run WHERE state = 'failed'")[0]
    write(f"  {'failed':28}{lost:10}\n")
    tell_cpu(used, after, took, count)


def rewind(span: timedelta) -> None:
    """Have those fires missed that were due for so long before the first run of all."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_target SET next_fire_at = next_fire_at - missed.period"
            " FROM (SELECT min(created_at), make_interval(secs => %s), make_interval(secs => %s)"
            " FROM scheduling_run) AS missed(until, span, period)"
            " WHERE next_fire_at - missed.period BETWEEN missed.until - missed.span"
            " AND missed.until",
            [span.total_seconds(), PERIOD.total_seconds()],
        )


def behind() -> timedelta:
    """How late the oldest run is that has not ended, or that is not there yet."""
    oldest = row("SELECT now() - min(scheduled_at) FROM scheduling_run WHERE ended_at IS NULL")[0]
    return max(oldest or timedelta(0), due_since())


def due_since() -> timedelta:
    found = row("SELECT now() - min(next_fire_at) FROM scheduling_target")[0]
    return max(found or timedelta(0), timedelta(0))


def ended() -> int:
    from scheduling.models import Run

    return Run.objects.ended().count()


def moment() -> datetime:
    found = row("SELECT clock_timestamp()")[0]
    assert isinstance(found, datetime)
    return found


def row(statement: str, **values: Any) -> tuple[Any, ...]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        found: tuple[Any, ...] = cursor.fetchone()
    return found


def cpu(processes: dict[str, int]) -> dict[str, float]:
    """Processor seconds used so far, by process; what a worker forks counts apart."""
    used: dict[str, float] = {}
    for name, pid in processes.items():
        own = psutil.Process(pid)
        children = sum(seconds_of(child) for child in own.children(recursive=True))
        if name == "worker":
            used |= {"worker": seconds_of(own), "worker's children": children}
        else:
            used[name] = seconds_of(own) + children
    return used


def seconds_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # Of children that have ended, too: PostgreSQL's connections come and go.
    return float(times.user + times.system + times.children_user + times.children_system)


def tell_cpu(before: dict[str, float], after: dict[str, float], took: float, runs: int) -> None:
    write(f"  {'processors':28}{'share':>10}{'ms/run':>10}\n")
    for name, seconds in after.items():
        spent = seconds - before.get(name, 0.0)
        write(f"    {name:26}{spent / took:10.0%}{spent * 1e3 / max(runs, 1):10.2f}\n")


if __name__ == "__main__":
    main()
