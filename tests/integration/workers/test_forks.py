"""A fork waits for threads at work, and they for a fork; neither waits long."""

from __future__ import annotations

import os
import threading
import time

import pytest

from workers import forks
from workers.forks import Forks


def test_a_fork_waits_for_what_is_under_way() -> None:
    gate, at_work, events = Forks(), threading.Event(), []

    def work() -> None:
        with gate.none_meanwhile():
            at_work.set()
            forking.wait(10)
            events.append("worked")

    forking = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert at_work.wait(10)
    threading.Timer(0.05, forking.set).start()
    gate.before()
    events.append("forked")
    gate.after_in_parent()
    thread.join(10)
    assert events == ["worked", "forked"]


def test_work_waits_for_a_fork() -> None:
    gate, begun = Forks(), threading.Event()
    gate.before()

    def work() -> None:
        with gate.none_meanwhile():
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not begun.wait(0.05)
    gate.after_in_parent()
    assert begun.wait(10)
    thread.join(10)


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "PATIENCE", 0.05)
    gate = Forks()
    with gate.none_meanwhile():
        began = time.monotonic()
        gate.before()
        assert time.monotonic() - began >= 0.05
        gate.after_in_parent()


def test_a_child_begins_anew() -> None:
    gate = forks.forks
    with gate.none_meanwhile():
        child = os.fork()
        if not child:
            os._exit(gate._at_work)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
