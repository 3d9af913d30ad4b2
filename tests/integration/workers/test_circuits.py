"""The watch over circuits: who is asked what and when, and what the answers lead to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.models import Circuit, Job
from scheduling.registry import Declaration, registry
from scheduling.schedules import Manual
from tests.factories import NOW, make_job
from tests.waiting import wait_for
from workers import circuits, hooks

pytestmark = pytest.mark.django_db(transaction=True)


class Member:
    """A job of the circuit whose hooks say what a test wants, and note that they were asked."""

    def __init__(self, name: str, *, has_ready: bool = True, **fields: Any) -> None:
        self.name = name
        self.ready: Any = True
        self.status: Any = True
        self.asked: list[str] = []
        fields.setdefault("ready_since", NOW if has_ready else None)
        make_job(name, circuit_id="edge", **fields)
        registry.add(
            Declaration(
                name=name,
                kind="task",
                declared_in="function",
                schedule=Manual(),
                ready=(lambda: self.answer("ready")) if has_ready else None,
                status=lambda: self.answer("status"),
            )
        )

    def answer(self, which: str) -> object:
        self.asked.append(which)
        value = getattr(self, which)
        return value() if callable(value) else value

    @property
    def job(self) -> Job:
        return Job.objects.get(name=self.name)


@pytest.fixture(autouse=True)
def circuit() -> Iterator[Circuit]:
    known = dict(registry._by_name)
    yield Circuit.objects.create(name="edge")
    registry._by_name.clear()
    registry._by_name.update(known)
    wait_for(lambda: not any(hooks._Call.hanging.values()), message="all hooks have returned")


def now_due() -> None:
    Circuit.objects.update(check_at=clock.now() - timedelta(seconds=1))


def edge() -> Circuit:
    return Circuit.objects.get(name="edge")


def opened() -> None:
    runs.fail_circuit(edge(), member="reader", reason="it failed", now=clock.now())
    now_due()


def raising() -> bool:
    raise OSError("no route")


def test_a_closed_circuit_is_looked_at_every_so_often() -> None:
    reader = Member("reader")

    assert circuits.watch() == 1
    assert circuits.watch() == 0

    assert reader.asked == ["status"]
    check_at = edge().check_at
    assert check_at is not None
    left = check_at - clock.now()
    assert timedelta(0) < left <= conf.CIRCUIT_EVERY
    assert not edge().is_open


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (False, "status() gave False"),
        (raising, "status() raised OSError: no route"),
        (lambda: threading.Event().wait(0.3), "status() took longer than 0.05 s"),
    ],
)
@override_settings(JOBS_HOOK_LIMIT=timedelta(milliseconds=50))
def test_a_status_that_is_not_yes_opens_it(status: object, why: str) -> None:
    reader, writer = Member("reader"), Member("writer")
    writer.status = status

    circuits.watch()

    assert (edge().opened_by, edge().open_reason) == ("writer", why)
    assert writer.job.unready_detail == why
    assert reader.job.unready_detail == ""


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"left_out": True}, id="left out"),
        pytest.param({"retired_at": NOW}, id="retired"),
        pytest.param({"paused_at": NOW}, id="paused"),
        pytest.param({"ready_since": None}, id="never ready"),
    ],
)
def test_the_status_of_some_is_not_asked(fields: dict[str, Any]) -> None:
    reader = Member("reader", **fields)
    reader.status = False

    circuits.watch()

    assert reader.asked == []
    assert not edge().is_open


def test_an_open_circuit_closes_when_all_are_ready() -> None:
    reader, writer = Member("reader"), Member("writer")
    plain = Member("plain", has_ready=False)
    writer.ready = False
    opened()

    circuits.watch()

    assert edge().is_open
    assert (edge().probes, reader.asked, plain.asked) == (1, ["ready"], [])
    assert (writer.job.ready_since, writer.job.unready_detail) == (None, "ready() gave False")
    assert writer.job.asked_at is not None
    assert reader.job.ready_since == NOW

    writer.ready = True
    assert circuits.watch() == 0  # not yet
    now_due()
    circuits.watch()

    assert not edge().is_open
    assert writer.job.unready_detail == ""
    assert writer.job.ready_since is not None
    assert "status" not in writer.asked


def test_a_member_that_is_never_ready_is_named_and_can_be_left_out() -> None:
    reader, never = Member("reader"), Member("never", ready_since=None)
    never.ready = raising
    opened()
    circuits.watch()
    assert edge().is_open
    assert never.job.unready_detail == "ready() raised OSError: no route"
    assert reader.job.unready_detail == ""

    runs.leave_out(edge(), never.job, by="ann", now=clock.now())
    now_due()
    circuits.watch()

    assert not edge().is_open


def test_of_several_workers_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Member("reader")
    due = runs.due_checks

    def rival_first(now: Any) -> list[Circuit]:
        found = due(now)
        monkeypatch.setattr(runs, "due_checks", due)
        circuits.watch()
        return found

    monkeypatch.setattr(runs, "due_checks", rival_first)
    assert circuits.watch() == 0
    assert reader.asked == ["status"]


def test_a_paused_circuit_is_not_closed_by_members_that_nobody_asks() -> None:
    Member("reader")
    opened()
    runs.pause(edge(), by="ann", reason="works", now=clock.now())
    circuits.watch()
    assert edge().is_open

    runs.resume(edge(), by="ann", now=clock.now())
    now_due()
    circuits.watch()
    assert not edge().is_open


def test_in_shadow_mode_nobody_is_asked() -> None:
    reader = Member("reader")
    with override_settings(JOBS_SHADOW=True):
        assert circuits.watch() == 0
    assert reader.asked == []


def test_a_paused_circuit_is_not_opened_by_what_is_stopped_on_purpose() -> None:
    reader = Member("reader")
    reader.status = False
    runs.pause(edge(), by="ann", reason="works", now=clock.now())

    circuits.watch()

    assert not edge().is_open
