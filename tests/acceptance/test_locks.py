"""Locks, while Valkey forgets them and their holders are frozen and killed."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import psutil
import pytest

from scheduling import runs
from scheduling.conf import conf
from scheduling.models import Job, Resource, Run, State
from scheduling.runs import Result
from tests.acceptance.rig import ON_SQLITE_IN_SOAK, Rig, add_job, now, send_to
from tests.waiting import wait_for
from workers import locks

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
WORK = "tests.testapp.jobs.take_a_while"
ONE, THREE = "one seat", "three seats"
LINE = 40
# After its holder's end, or after a dead one's lease.
NEXT_WITHIN = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Stay:
    """How long a run was inside."""

    since: float
    until: float


class Line:
    """Runs that want one lock, in the order in which they asked for it."""

    def __init__(self, rig: Rig, key: str) -> None:
        self.rig = rig
        self.key = key
        # Those who hold it first go when there is the first file, those in the line at the second.
        self.go, self.end = rig.folder / f"go {key}", rig.folder / f"end {key}"
        common = {"overlap": "allow", "locks": [key]}
        self.worker = add_job(f"work on {key}", task=WORK, kwargs={"seconds": 0.1}, **common)
        self.first = add_job(f"hold {key}", task=HOLD, kwargs={"until": str(self.go)}, **common)
        self.holder = add_job(
            f"stay in {key}", task=HOLD, kwargs={"until": str(self.end)}, **common
        )
        for job in (self.worker, self.first, self.holder):
            runs.adopt(job, now=now())
        self.asked: list[Run] = []
        # Those that somebody stopped in the middle, and when.
        self.stopped: dict[str, float] = {}

    def ask(self, job: Job) -> Run:
        run = runs.trigger(job, by="a test", now=now())
        self.asked.append(run)
        return run

    def occupy(self, seats: int) -> None:
        for _ in range(seats):
            self.ask(self.first)
        wait_for(lambda: len(self.starts()) == seats, timeout=60, message="all seats are taken")

    def wait_in_line(self, job: Job) -> Run:
        """Ask for a run, and wait until it has its place."""
        run = self.ask(job)
        waiting = Run.objects.filter(pk=run.pk, waiting_for=self.key)
        wait_for(waiting.exists, timeout=30, message=lambda: Run.objects.filter(pk=run.pk).values())
        return run

    def starts(self) -> list[str]:
        """Return the runs that began, in this order."""
        ours = {str(run.pk) for run in self.asked}
        return [line.run for line in self.rig.lines("start") if line.run in ours]

    def wait_for_start(self, run: Run, *, timeout: float) -> psutil.Process:
        """Return the process that it began in."""
        wait_for(
            lambda: str(run.pk) in self.starts(),
            timeout=timeout,
            message=lambda: Run.objects.filter(pk=run.pk).values(),
        )
        [line] = [line for line in self.rig.lines("start") if line.run == str(run.pk)]
        return psutil.Process(line.pid)

    def stays(self) -> list[Stay]:
        """Return from when to when each run was inside; what stands still does nothing there."""
        begun = {line.run: line.at for line in self.rig.lines("start")}
        ended = {line.run: line.at for line in self.rig.lines("end")} | self.stopped
        return [Stay(begun[run], ended[run]) for run in self.starts()]


def most_at_once(stays: Sequence[Stay]) -> int:
    return max(sum(each.since <= one.since < each.until for each in stays) for one in stays)


def longest_gap(stays: Sequence[Stay]) -> timedelta:
    """Return how long nobody was inside although somebody waited."""
    ascending = sorted(stays, key=lambda stay: stay.since)
    latest, longest = ascending[0].until, 0.0
    for stay in ascending[1:]:
        longest = max(longest, stay.since - latest)
        latest = max(latest, stay.until)
    return timedelta(seconds=longest)


def check_stranger(line: Line) -> None:
    """Let somebody who does not hold the lock try to give it up, and to end its holder's run."""
    holder = line.asked[0]
    holder.refresh_from_db()
    locks.release([line.key], "somebody/1")
    assert not runs.finish(
        holder.pk,
        holder.attempt,
        token=(holder.token or 0) + 1,
        result=Result(state=State.SUCCEEDED),
        now=now(),
    )
    line.wait_in_line(line.worker)
    assert len(line.starts()) == 1


def lose_everything(rig: Rig, *, by_restart: bool) -> None:
    if not by_restart:
        with rig.valkey.client() as client:
            client.flushall()
        return
    rig.valkey.kill()
    rig.valkey.start()


def test_a_lock_has_one_holder_whatever_happens_to_it_and_to_valkey(rig: Rig) -> None:
    """Forty wait; one is frozen as it holds the lock, another is killed with its worker."""
    rig.beat()
    rig.worker("worker1", concurrency=3)
    rig.worker("worker2", concurrency=3)
    line = Line(rig, ONE)
    line.occupy(1)
    check_stranger(line)
    roles = {9: "frozen", 19: "killed"}
    chosen = {}
    while len(line.asked) <= LINE:
        role = roles.get(len(line.asked))
        run = line.wait_in_line(line.holder if role else line.worker)
        if role:
            chosen[role] = run
    order = [str(run.pk) for run in line.asked]
    assert line.starts() == order[:1]

    line.go.touch()
    wait_for(lambda: len(line.starts()) >= 4, timeout=30, message=line.starts)
    lose_everything(rig, by_restart=False)
    frozen = line.wait_for_start(chosen["frozen"], timeout=40)
    send_to(frozen, signal.SIGSTOP)
    line.stopped[str(chosen["frozen"].pk)] = at = now().timestamp()
    wait_for(
        lambda: len(line.starts()) > 10,
        timeout=(conf.lease + NEXT_WITHIN).total_seconds(),
        message=line.starts,
    )
    logger.info("Behind the frozen one the next began after %.1f s", now().timestamp() - at)
    send_to(frozen, signal.SIGCONT)
    lose_everything(rig, by_restart=True)
    line.wait_for_start(chosen["killed"], timeout=60)
    kill_worker_of(rig, chosen["killed"])
    line.stopped[str(chosen["killed"].pk)] = at = now().timestamp()
    rig.worker("worker3", concurrency=3)
    wait_for(
        lambda: len(line.starts()) > 20,
        timeout=(conf.lease + NEXT_WITHIN).total_seconds(),
        message=line.starts,
    )
    logger.info("Behind the killed one the next began after %.1f s", now().timestamp() - at)
    # The thawed one ends now, long after its place was another's.
    line.end.touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=60, message=line.starts)
    assert line.starts() == order
    assert most_at_once(line.stays()) == 1
    assert longest_gap(line.stays()) <= conf.lease + NEXT_WITHIN
    for role in ("frozen", "killed"):
        chosen[role].refresh_from_db()
        assert (chosen[role].state, chosen[role].reason) == ("failed", "lost")
    assert Run.objects.filter(state="succeeded").count() == len(order) - 2
    rig.stop()
    rig.check_oracle(refused=1)


def kill_worker_of(rig: Rig, run: Run) -> None:
    run.refresh_from_db()
    name = run.worker.partition("@")[0]
    [worker] = [process for process in rig.processes if process.name == name]
    worker.kill()


@pytest.mark.parametrize("either_rig", ON_SQLITE_IN_SOAK, indirect=True)
def test_locks_of_one_and_of_three_seats_are_never_overfilled(either_rig: Rig) -> None:
    """Forty wait for each, and Valkey loses everything twice."""
    rig = either_rig
    Resource.objects.create(key=THREE, seats=3)
    rig.beat()
    rig.worker("worker1", concurrency=6)
    rig.worker("worker2", concurrency=6)
    lines = {seats: Line(rig, key) for seats, key in ((1, ONE), (3, THREE))}
    for seats, line in lines.items():
        line.occupy(seats)
    for line in lines.values():
        while len(line.asked) < LINE:
            line.wait_in_line(line.holder if len(line.asked) == 14 else line.worker)
    for line in lines.values():
        line.go.touch()
    wait_for(lambda: len(rig.lines("end")) >= 12, timeout=30, message="the lines move")
    lose_everything(rig, by_restart=False)
    for line in lines.values():
        send_to(line.wait_for_start(line.asked[14], timeout=40), signal.SIGKILL)
        line.stopped[str(line.asked[14].pk)] = now().timestamp()
    lose_everything(rig, by_restart=True)
    wait_for(
        lambda: not Run.objects.open().exists(),
        timeout=80,
        message=lambda: list(Run.objects.open().values("name", "state", "waiting_for")),
    )
    for seats, line in lines.items():
        assert most_at_once(line.stays()) == seats
        assert longest_gap(line.stays()) <= NEXT_WITHIN
    assert lines[1].starts() == [str(run.pk) for run in lines[1].asked]
    assert [run.reason for run in Run.objects.exclude(state="succeeded")] == ["lost", "lost"]
    rig.check_oracle()
