"""An installation of real processes that a test may kill, and the law that must hold afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connections
from django.db.models import QuerySet

from config.settings import POSTGRES_OPTIONS, SQLITE_OPTIONS, env
from scheduling import runs
from scheduling.models import Job, Run, Target
from tests.services import Valkey, end_with_parent
from tests.testapp import oracle
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
# A child of billiard's pool that is told to stop waits up to 30 s for its last results to be taken.
STOP_TIMEOUT = 45.0
# Processes of a job of `family`: itself, two children, a deaf one, and one that has left.
FAMILY = 5
# Beatkeeper's own job, which fires once a day in each installation.
ARCHIVE = "beatkeeper_archive"
# Parameters of a fixture: for what takes long and does not depend on the database, beyond what the
# tests of each part show on both.
ON_SQLITE_IN_SOAK = ("rig", pytest.param("embedded_rig", marks=pytest.mark.soak))
FAMILY_PROGRAM = ROOT / "tests" / "testapp" / "family.sh"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the installation, the leader of a session of its own."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def tree(self) -> list[psutil.Process]:
        """Return it and all that descends from it, as far as that has not left it."""
        if not self.is_alive():
            return []  # its number may be another's
        try:
            own = psutil.Process(self.popen.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """End it and its children at once, as a machine that dies does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self) -> None:
        """Ask it to end. Raises AssertionError if it does not; its log then says where it was."""
        self.send(signal.SIGTERM)
        self.wait_for_end()

    def wait_for_end(self) -> None:
        try:
            self.popen.wait(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)  # Python's fault handler writes the tracebacks
            self.popen.wait(timeout=STOP_TIMEOUT)
            raise AssertionError(f"{self.name} did not stop in {STOP_TIMEOUT:g} s") from None

    def says(self, pattern: str) -> bool:
        return (
            re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace")) is not None
        )


class Rig:
    """Beats and workers on one database and one Valkey; the test itself uses the same database."""

    def __init__(self, folder: Path, database_url: str, valkey: Valkey) -> None:
        self.folder = folder
        self.valkey = valkey
        self.processes: list[Process] = []
        self.mail = folder / "mail"
        self.pids = folder / "pids"
        self.pids.mkdir()
        # What jobs have started, so that no failing test leaves it behind.
        self.families: list[psutil.Process] = []
        self.environ = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings",
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
            "CELERY_BROKER_URL": valkey.broker_url,
            "JOBS_VAR": str(folder),
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            oracle.ENVIRONMENT: str(folder / "oracle"),
            "JOBS_TEST_MAIL": str(self.mail),
            "JOBS_TEST_PIDS": str(self.pids),
        }

    # --- processes --------------------------------------------------------------------------------

    def start(self, name: str, *words: str, **environ: str) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("ab") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=self.environ | {"PGAPPNAME": name} | environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGKILL),
            )
        process = Process(name=name, popen=popen, log=log)
        self.processes.append(process)
        return process

    def beat(self, name: str = "beat", *, scheduler: str = "") -> Process:
        chosen = ["--scheduler", scheduler] if scheduler else []
        return self.start(name, "celery", "-A", "config", "beat", "--loglevel", "INFO", *chosen)

    def worker(
        self,
        name: str = "worker",
        *,
        concurrency: int = 2,
        queue: str = "celery",
        pool: str = "prefork",
        **environ: str,
    ) -> Process:
        """Start a worker; messages it finds are its as soon as it is up."""
        options = ["--without-gossip", "--without-mingle", "--hostname", f"{name}@rig"]
        return self.start(
            name,
            *("celery", "-A", "config", "worker", "--loglevel", "INFO"),
            *("--concurrency", str(concurrency), "--queues", queue, "--pool", pool, *options),
            **environ,
        )

    def web(self, port: int) -> Process:
        options = ["--workers", "1", "--threads", "4", "--no-control-socket"]
        bind = ["--bind", f"127.0.0.1:{port}"]
        return self.start("web", "gunicorn", "config.wsgi", *bind, *options)

    def manage(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def stop(self) -> None:
        """End everything, beats first; a frozen process is thawed."""
        trees = [each for process in self.processes for each in process.tree()]
        for each in trees:
            send_to(each, signal.SIGCONT)
        for process in self.processes:
            if process.is_alive():
                process.send(signal.SIGTERM)
        try:
            for process in self.processes:
                process.wait_for_end()
        finally:
            for process in self.processes:
                process.kill()
            for each in (*trees, *self.families):
                send_to(each, signal.SIGKILL)

    def logs(self) -> Iterator[tuple[str, str]]:
        for log in sorted(self.folder.glob("*.log")):
            yield log.stem, log.read_text(encoding="utf-8", errors="replace")[-6000:]

    # --- what is seen from outside ----------------------------------------------------------------

    def lines(self, event: str = "", job: str = "") -> list[oracle.Line]:
        return [
            line
            for line in oracle.read(self.folder / "oracle")
            if event in ("", line.event) and job in ("", line.job)
        ]

    def family(self, run: Run, *, size: int = FAMILY) -> list[psutil.Process]:
        """Wait until the processes of a run of `family` are there, and return them."""
        file = self.pids / str(run.pk)
        wait_for(
            lambda: file.exists() and len(file.read_text().split()) >= size,
            timeout=60,
            message=lambda: f"no {size} processes: {Run.objects.filter(pk=run.pk).values()}",
        )
        family = [psutil.Process(int(pid)) for pid in file.read_text().split()]
        self.families += family
        return family

    def messages(self, queue: str = "celery") -> int:
        return self.valkey.length(queue)

    def subjects(self) -> list[str]:
        """Return the subjects of all mails, in the order of sending."""
        return [
            subject
            for path in sorted(self.mail.glob("*"), key=lambda path: path.stat().st_mtime_ns)
            for subject in re.findall(r"^Subject: (.*)$", path.read_text(), re.MULTILINE)
        ]

    # --- the law ----------------------------------------------------------------------------------

    def wait_until(self, moment: datetime) -> None:
        seconds = (moment - now()).total_seconds()
        wait_for(lambda: now() >= moment, timeout=seconds + 5, message=f"it is {moment}")

    def firing(self) -> QuerySet[Target]:
        """The targets that have a fire time to come; Beatkeeper's own job always has."""
        firing = Target.objects.filter(next_fire_at__isnull=False)
        return firing.exclude(job__name=ARCHIVE)

    def end(self, job: Job) -> datetime:
        """Let it fire for two more seconds; give when that is over.

        Not from now on: what fires while an edit is under way may be on either side of it.
        """
        until = now() + timedelta(seconds=2)
        runs.reschedule(job, ends_at=until, now=now())
        return until

    def wait_for_ends(self, *, timeout: float) -> None:
        """Wait until no target fires any more and no run is open."""
        open_runs = Run.objects.open()
        wait_for(
            # Twice: a target may wait for its run, or fire, between two looks.
            lambda: not (open_runs.exists() or self.firing().exists() or open_runs.exists()),
            timeout=timeout,
            interval=0.1,
            message=lambda: f"still open: {list(Run.objects.open().values()[:5])}",
        )

    def check_fires(self, target: Target, expected: list[datetime]) -> None:
        """Check that each of `expected` has exactly one run or is in exactly one skip."""
        rows = Run.objects.filter(target=target, cause__in=("schedule", "catch_up"))
        accounted: list[datetime] = []
        for row in rows:
            if row.scheduled_until is None:
                assert row.fires == 1
                accounted.append(row.scheduled_at)
                continue
            stretch = [fire for fire in expected if row.scheduled_at <= fire <= row.scheduled_until]
            assert len(stretch) == row.fires, f"{row} says {row.fires} fires, it is {stretch}"
            accounted += stretch
        assert sorted(accounted) == expected, (
            f"{target}: lost {sorted(set(expected) - set(accounted))}, "
            f"invented {sorted(set(accounted) - set(expected))}, "
            f"{len(accounted) - len(set(accounted))} double"
        )

    def check_oracle(self, *, refused: int = 0) -> None:
        """Check that what jobs told is what the database says.

        No attempt began twice; no run was accepted as ended twice; every accepted success was told
        by exactly that attempt; at most `refused` ends were told that were not accepted.
        """
        starts = [(line.run, line.attempt) for line in self.lines("start")]
        assert len(starts) == len(set(starts)), "an attempt began twice"
        ends = [(line.run, line.attempt, line.token) for line in self.lines("end")]
        assert len(ends) == len(set(ends)), "an attempt ended twice"
        accepted = {
            (str(run.pk), run.attempt, run.token) for run in Run.objects.filter(state="succeeded")
        }
        assert accepted <= set(ends), f"never ran: {accepted - set(ends)}"
        assert len(set(ends) - accepted) <= refused, f"not recorded: {set(ends) - accepted}"

    def check_oracle_of_foreign(self) -> None:
        """As `check_oracle`, for tasks that know only the id of their message."""
        starts = [line.run for line in self.lines("start")]
        assert len(starts) == len(set(starts)), "a message was executed twice"


def every_second(after: datetime, until: datetime) -> list[datetime]:
    """Return the whole seconds in (after, until]: `every 1s`, by arithmetic that is not ours."""
    first, last = int(after.timestamp()) + 1, int(until.timestamp())
    return [datetime.fromtimestamp(second, UTC) for second in range(first, last + 1)]


def add_job(name: str, **fields: object) -> Job:
    """Make a job of a task of the test app, as an operator does in the admin."""
    fields.setdefault("task", "tests.testapp.jobs.note")
    return Job.objects.create(name=name, kind="task", declared_in="admin", **fields)


def add_command(name: str, command: str, **fields: object) -> Job:
    """Make an external job of a management command of the test app."""
    return Job.objects.create(
        name=name, kind="command", command=command, internal=False, declared_in="admin", **fields
    )


def add_family(name: str, *, is_program: bool = False, deaf: bool = False, **fields: Any) -> Job:
    """Make an external job that has children of every sort and does not end by itself."""
    if not is_program:
        return add_command(name, "family", kwargs={"deaf": deaf}, **fields)
    return Job.objects.create(
        name=name,
        kind="argv",
        command=str(FAMILY_PROGRAM),
        args=["deaf"] if deaf else [],
        declared_in="admin",
        **fields,
    )


def trigger(job: Job) -> Run:
    moment = now()
    runs.adopt(job, now=moment)
    return runs.trigger(job, by="a test", now=moment)


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process exists and is not merely waiting to be buried."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def send_to(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal, unless the process has gone and its number may be another's."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextlib.contextmanager
def using_database(url: str) -> Iterator[None]:
    """Let this process use another database than the one of the settings."""
    config = env.db_url_config(url)
    is_sqlite = config["ENGINE"].endswith("sqlite3")
    config["OPTIONS"] = SQLITE_OPTIONS if is_sqlite else POSTGRES_OPTIONS
    own = connections.settings["default"]
    connections["default"].close()
    del connections["default"]
    connections.settings["default"] = connections.configure_settings({"default": config})["default"]
    try:
        yield
    finally:
        connections["default"].close()
        del connections["default"]
        connections.settings["default"] = own
