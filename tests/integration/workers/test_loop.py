from __future__ import annotations

from datetime import timedelta
from threading import Event

import pytest

from tests.waiting import wait_for
from workers.loop import Loop

pytestmark = pytest.mark.django_db(transaction=True)


def quickly() -> timedelta:
    return timedelta(seconds=0.01)


def test_a_loop_goes_on_whatever_fails_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("no server")

    loop = Loop("Looking", fail, every=quickly)
    loop.start()
    wait_for(lambda: len(calls) > 3)
    loop.stop()
    assert caplog.text.count("Looking failed") == 1


def test_one_that_hangs_holds_up_nobody_who_stops_it() -> None:
    begun, go = Event(), Event()

    def hang() -> None:
        begun.set()
        go.wait(timeout=30)

    loop = Loop("Hanging", hang, every=quickly)
    loop.start()
    assert begun.wait(timeout=10)
    loop.stop()  # comes back although the call does not
    go.set()
