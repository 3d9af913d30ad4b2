"""Pings: a monitor outside is told of each start and end, once, in order, and nobody else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from scheduling import runs
from scheduling.errors import InvalidDeclaration
from scheduling.models import Job, Ping, Reason, Run, State
from scheduling.ping_urls import ping_address, require_ping_url
from scheduling.runs import Result
from tests.factories import NOW, make_job
from workers import pings

pytestmark = pytest.mark.django_db

SECRET = "5f2a-secret"


@dataclass
class Monitor:
    """What pings to 127.0.0.1 have arrived; answers with `status`."""

    port: int = 0
    status: int = 200
    location: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{SECRET}"

    @property
    def signals(self) -> list[str]:
        return [path.partition("?")[0].removeprefix(f"/{SECRET}") for _, path in self.seen]


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    found = Monitor()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            found.seen.append((self.command, self.path))
            found.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.send_response(found.status)
            if found.location:
                self.send_header("Location", found.location)
            self.end_headers()

        do_GET = do_POST = answer

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def pinged(monitor: Monitor, **fields: Any) -> Job:
    return make_job("books", ping_url=monitor.url, **fields)


def begin(job: Job, *, at: datetime = NOW) -> Run:
    runs.adopt(job, now=at)
    run = runs.trigger(job, by="anna", now=at)
    started = runs.start(run.pk, 1, worker="w@x/1", now=at)
    assert started is not None
    return started.run


def finish(run: Run, state: State = State.SUCCEEDED, *, at: datetime = NOW, **fields: Any) -> None:
    result = Result(state=state, **fields)
    assert runs.finish(run.pk, run.attempt, token=run.token, result=result, now=at)


@pytest.mark.parametrize(
    ("state", "signals"), [(State.SUCCEEDED, ["/start", ""]), (State.FAILED, ["/start", "/fail"])]
)
def test_the_start_and_the_end_are_told_once_and_in_order(
    monitor: Monitor, state: State, signals: list[str]
) -> None:
    run = begin(pinged(monitor))
    finish(run, state)
    assert pings.deliver_due(NOW) == 1  # the end waits for the start
    assert pings.deliver_due(NOW) == 1
    assert pings.deliver_due(NOW + timedelta(days=1)) == 0
    assert monitor.signals == signals
    assert monitor.seen[0] == ("GET", f"/{SECRET}/start?rid={run.pk}")
    assert all(path.endswith(f"?rid={run.pk}") for _, path in monitor.seen)


def test_a_job_without_a_monitor_has_no_pings() -> None:
    finish(begin(make_job()))
    assert not Ping.objects.exists()


def test_only_the_first_start_and_the_final_end_of_a_run_are_told(monitor: Monitor) -> None:
    run = begin(pinged(monitor, retries=1))
    finish(run, State.FAILED)
    assert list(Ping.objects.values_list("signal", flat=True)) == ["start"]
    later = NOW + timedelta(minutes=5)
    started = runs.start(run.pk, 2, worker="w@x/1", now=later)
    assert started is not None
    finish(started.run, at=later)
    assert sorted(Ping.objects.values_list("signal", flat=True)) == ["start", "success"]


def test_a_cancelled_run_tells_nothing_more(monitor: Monitor) -> None:
    run = begin(pinged(monitor))
    finish(run, State.FAILED, reason=Reason.CANCELLED)
    assert not Ping.objects.exists()


def test_a_declined_run_tells_nothing(monitor: Monitor) -> None:
    run = begin(pinged(monitor))
    assert run.token is not None
    runs.decline(run.pk, 1, token=run.token, detail="", now=NOW)
    assert not Ping.objects.exists()


def test_a_run_of_a_lost_worker_fails(monitor: Monitor) -> None:
    run = begin(pinged(monitor))
    runs.lose(run.pk, 1, detail="gone", now=NOW)
    assert sorted(Ping.objects.values_list("signal", flat=True)) == ["fail", "start"]


def test_the_output_goes_along_only_if_that_is_set(monitor: Monitor, settings: Any) -> None:
    text = "".join(f"line {number}\n" for number in range(5000))
    job = pinged(monitor)
    for send_output in (False, True):
        settings.JOBS_PING_OUTPUT = send_output
        finish(begin(job), output=text)
        pings.deliver_due(NOW)
        pings.deliver_due(NOW)
    assert monitor.bodies[:3] == [b"", b"", b""]
    assert monitor.seen[3][0] == "POST"
    assert monitor.bodies[3] == text.encode()[-10_000:]


def test_of_two_workers_with_the_same_ping_one_sends_it(monitor: Monitor) -> None:
    begin(pinged(monitor))
    row = Ping.objects.select_related("run__job").get()
    assert pings.deliver_one(row, now=NOW) is True
    assert pings.deliver_one(row, now=NOW) is None
    assert monitor.signals == ["/start"]


def test_a_monitor_that_answers_with_an_error_is_asked_again_less_and_less_often(
    monitor: Monitor,
) -> None:
    run = begin(pinged(monitor))
    Ping.objects.all().delete()
    finish(run)
    monitor.status = 503
    row, at, waits = Ping.objects.get(), NOW, []
    while row.deliver_at is not None:
        at = row.deliver_at
        assert pings.deliver_due(at) == 0
        row.refresh_from_db()
        if row.deliver_at is not None:
            waits.append((row.deliver_at - at).total_seconds())
    assert waits == [15 * 2**n for n in range(9)]
    assert (row.attempts, row.error) == (10, "HTTP 503")
    assert len(monitor.seen) == 10


def test_the_end_waits_until_the_start_is_told_or_given_up(monitor: Monitor) -> None:
    run = begin(pinged(monitor))
    monitor.status = 500
    pings.deliver_due(NOW)
    finish(run)
    monitor.status = 200
    assert pings.deliver_due(NOW + timedelta(seconds=5)) == 0
    late = NOW + timedelta(minutes=11)
    pings.deliver_due(late)
    pings.deliver_due(late)
    assert monitor.signals == ["/start", ""]  # the first one was refused
    assert "Too old" in Ping.objects.get(signal="start").error


def test_an_end_that_was_overtaken_is_not_sent_any_more(monitor: Monitor) -> None:
    job = pinged(monitor)
    first = begin(job)
    Ping.objects.all().delete()
    finish(first)
    monitor.status = 500
    pings.deliver_due(NOW)
    monitor.status = 200
    later = NOW + timedelta(minutes=1)
    finish(begin(job, at=later), State.FAILED, at=later)
    pings.deliver_due(later)
    pings.deliver_due(later)
    assert monitor.signals == ["", "/start", "/fail"]


def test_one_dead_monitor_costs_one_attempt_a_round(monitor: Monitor) -> None:
    dead = make_job("dead", ping_url="http://127.0.0.1:1/gone")
    for _ in range(3):
        finish(begin(dead))
    begin(pinged(monitor))
    assert pings.deliver_due(NOW) == 1
    assert Ping.objects.filter(run__job=dead, attempts=1).count() == 1


def test_nobody_is_led_elsewhere(monitor: Monitor) -> None:
    monitor.status, monitor.location = 302, "http://127.0.0.1:1/elsewhere"
    begin(pinged(monitor))
    assert pings.deliver_due(NOW) == 0
    assert Ping.objects.get().error == "HTTP 302"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "ConnectionRefusedError"),
        (f"file:///{SECRET}", "InvalidDeclaration"),
        (f"http://{SECRET}.invalid:port/", "InvalidDeclaration"),
    ],
)
def test_what_goes_wrong_is_told_without_the_address(
    url: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    begin(make_job(ping_url=url))
    assert pings.deliver_due(NOW) == 0
    assert Ping.objects.get().error == error
    assert error in caplog.text
    assert SECRET not in caplog.text


def test_a_ping_of_a_job_that_has_no_monitor_any_more_is_dropped(monitor: Monitor) -> None:
    job = pinged(monitor)
    begin(job)
    Job.objects.filter(pk=job.pk).update(ping_url="")
    pings.deliver_due(NOW)
    assert Ping.objects.get().deliver_at is None
    assert not monitor.seen


@pytest.mark.parametrize(
    ("url", "signal", "address"),
    [
        ("https://hc.example/u", "start", "https://hc.example/u/start?rid=7"),
        ("https://hc.example/u", "success", "https://hc.example/u?rid=7"),
        ("https://hc.example/u/", "fail", "https://hc.example/u/fail?rid=7"),
        ("https://hc.example/u/?create=1", "fail", "https://hc.example/u/fail?create=1&rid=7"),
        ("http://[::1]:8000", "start", "http://[::1]:8000/start?rid=7"),
    ],
)
def test_addresses_have_the_form_of_healthchecks(url: str, signal: str, address: str) -> None:
    assert ping_address(require_ping_url(url), signal, run_id="7") == address


@pytest.mark.parametrize(
    "text",
    [
        "hc.example/secret",
        "ftp://hc.example/secret",
        "file:///secret",
        "https://",
        "https:///secret",
        "https://hc.example:port/secret",
        "https://user:secret@hc.example/",
        "https://hc.example/secret#fragment",
        "https://hc.example/sec ret",
        "https://hc.example/secret\nHost: x",
        "https://hc.example/sécret",
        "https://[::1/secret",
        "https://hc.example/secret" + 500 * "x",
    ],
)
def test_other_addresses_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidDeclaration) as refused:
        require_ping_url(text)
    assert "secret" not in str(refused.value)
    assert "hc.example" not in str(refused.value)


def test_an_empty_address_is_none() -> None:
    assert require_ping_url("  ") == ""
