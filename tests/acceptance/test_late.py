"""Telling the world outside: that nobody fires any more, and signs of life of each run."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from scheduling import models, runs
from scheduling.models import Notification, Ping, Run
from tests.acceptance.rig import ON_SQLITE_IN_SOAK, Rig, add_job, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance


@pytest.fixture(params=ON_SQLITE_IN_SOAK)
def late_rig(request: pytest.FixtureRequest) -> Rig:
    """An installation on PostgreSQL, or one on SQLite, where a target is late after seconds."""
    rig: Rig = request.getfixturevalue(request.param)
    rig.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.late_settings"
    return rig


def test_with_no_beat_alive_the_workers_alert_once_that_a_job_is_late(late_rig: Rig) -> None:
    rig = late_rig
    beat = rig.beat()
    rig.worker("worker1")
    rig.worker("worker2")
    wait_for(lambda: models.Process.objects.count() == 3, timeout=40, message="all have said hello")
    runs.adopt(add_job("books", schedule="every 2s"), now=now())
    wait_for(lambda: rig.lines("end", "books"), timeout=30, message="it has run")
    beat.kill()
    killed = now()
    wait_for(rig.subjects, timeout=40, message=lambda: list(Notification.objects.values()))
    logger.info("They told it after %s", now() - killed)
    # Both have looked several times more by then.
    rig.wait_until(now() + timedelta(seconds=4))
    assert rig.subjects() == ["[Beatkeeper] Late: books"]
    [alert] = Notification.objects.all()
    assert alert.late_since is not None
    assert alert.created_at - alert.late_since >= timedelta(seconds=12)
    assert alert.created_at - alert.late_since <= timedelta(seconds=18)
    assert "no beat is alive" in alert.detail
    # It starts again; nothing more is sent.
    told = len(rig.lines("end", "books"))
    rig.beat("beat2")
    wait_for(lambda: len(rig.lines("end", "books")) > told, timeout=40, message="it runs again")
    assert len(rig.subjects()) == 1
    rig.stop()
    rig.check_oracle()


@contextmanager
def monitor() -> Iterator[tuple[str, list[str]]]:
    """A monitor on this machine: its address, and the paths that were asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/secret", seen
        finally:
            server.shutdown()
            thread.join()


def test_a_monitor_hears_of_each_start_success_and_failure_once(late_rig: Rig) -> None:
    rig = late_rig
    rig.beat()
    rig.worker("worker1")
    rig.worker("worker2")
    broken = rig.folder / "broken"
    with monitor() as (url, seen):
        job = add_job(
            "fragile",
            task="tests.testapp.jobs.fail_while",
            kwargs={"broken": str(broken)},
            ping_url=url,
        )
        runs.adopt(job, now=now())
        expected: Counter[str] = Counter()
        for is_broken in (False, True, False):
            broken.touch() if is_broken else broken.unlink(missing_ok=True)
            run = runs.trigger(job, by="a test", now=now())
            end = "/fail" if is_broken else ""
            expected += Counter(f"/secret{what}?rid={run.pk}" for what in ("/start", end))
            wait_for(
                lambda: len(seen) >= expected.total(),  # noqa: B023
                timeout=40,
                message=lambda: (seen, list(Ping.objects.values())),
            )
            assert seen[-2].startswith("/secret/start")
        # Nothing is left to be sent a second time.
        wait_for(lambda: not Ping.objects.filter(deliver_at__isnull=False).exists(), timeout=10)
        rig.stop()
        assert Counter(seen) == expected
    assert Run.objects.filter(state="failed").count() == 1
    assert all("/secret" not in text for _, text in rig.logs())
