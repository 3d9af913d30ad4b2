"""Circuits: opened by a member that fails, closed when all are ready; no fire is lost meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling import lateness, ledger, runs
from scheduling.conf import conf
from scheduling.models import (
    Cause,
    Circuit,
    Event,
    Job,
    Notification,
    Parked,
    Reason,
    Run,
    State,
)
from scheduling.runs import Result
from scheduling.why.coming import obstacle
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.circuit_members import (
    MINUTE,
    SECOND,
    claim,
    end,
    events,
    fail,
    is_open,
    member,
    recover,
)

pytestmark = pytest.mark.django_db

FIRST, LONGEST = conf.CIRCUIT_DELAY, conf.CIRCUIT_DELAY_MAX


@pytest.fixture
def circuit() -> Circuit:
    return Circuit.objects.create(name="edge")


def test_a_member_that_fails_opens_the_circuit_and_says_so(circuit: Circuit) -> None:
    member("reader")

    fail("reader", NOW)

    circuit.refresh_from_db()
    assert (circuit.opened_at, circuit.opened_by) == (NOW, "reader")
    assert str(Run.objects.get().pk) in circuit.open_reason
    assert circuit.check_at == NOW + FIRST
    [row] = Notification.objects.filter(circuit=circuit)
    assert (row.name, row.event) == ("edge", Event.CIRCUIT_OPENED)
    assert row.detail.startswith("reader: ")


@pytest.mark.parametrize(
    ("fields", "columns", "reason"),
    [
        pytest.param({"left_out": True}, {}, "error", id="left out"),
        pytest.param({}, {"cause": Cause.MANUAL}, "error", id="by hand"),
        pytest.param({}, {"cause": Cause.BACKFILL}, "error", id="backfill"),
        pytest.param({}, {}, "cancelled", id="cancelled"),
        pytest.param({"schedule": "manual"}, {"cause": Cause.FOLLOW_UP}, "error", id="single run"),
        pytest.param({"circuit_id": None}, {}, "error", id="detached"),
    ],
)
def test_some_failures_open_no_circuit(
    circuit: Circuit, fields: dict[str, Any], columns: dict[str, Any], reason: str
) -> None:
    job = make_job(**{"schedule": "every 1m", "circuit_id": "edge", **fields})
    run = make_run(make_target(job), **{"cause": Cause.SCHEDULE, **columns})

    end(run, NOW, reason=reason)

    run.refresh_from_db()
    assert run.state == State.FAILED
    assert not is_open()


def test_only_the_last_failed_attempt_opens_it(circuit: Circuit) -> None:
    member("reader", retries=1)
    fail("reader", NOW)
    assert not is_open()
    [run] = Run.objects.queued()

    end(run, NOW + 2 * MINUTE)

    assert is_open()


def test_an_open_circuit_lets_bodies_finish_and_starts_nothing(circuit: Circuit) -> None:
    reader, writer = member("reader"), member("writer")
    first, running = sorted(claim(NOW), key=lambda run: run.name)
    started = runs.start(running.pk, 1, worker="w", now=NOW)
    assert started is not None
    waiting = make_run(writer, cause=Cause.CATCH_UP, scheduled_at=NOW - MINUTE)
    by_hand = make_run(writer, requested_by="ann")
    retried = make_run(
        reader, cause=Cause.CATCH_UP, scheduled_at=NOW - MINUTE, attempt=2, failures=1
    )
    late = make_run(reader, cause=Cause.CATCH_UP, scheduled_at=NOW - 2 * MINUTE)

    end(first, NOW)
    assert runs.start(late.pk, 1, worker="w", now=NOW) is None
    recover(NOW + SECOND)

    for run in (running, waiting, by_hand, retried, late):
        run.refresh_from_db()
    assert (running.state, running.stop_requested_at) == (State.RUNNING, None)
    assert (waiting.state, waiting.reason) == (State.SKIPPED, Reason.CIRCUIT)
    assert (late.state, late.reason) == (State.SKIPPED, Reason.CIRCUIT)
    assert "reader" in waiting.detail
    assert "reader" in late.detail
    assert by_hand.state == State.QUEUED
    # It has run: skipped, nobody would hear of its failure.
    assert (retried.state, retried.reason) == (State.FAILED, Reason.ERROR)
    ok = Result(state=State.SUCCEEDED)
    assert runs.finish(running.pk, 1, token=started.token, result=ok, now=NOW + SECOND)
    assert claim(NOW + MINUTE) == []
    writer.refresh_from_db()
    assert (writer.parked, writer.next_fire_at) == (Parked.CIRCUIT, None)


def test_a_member_that_is_left_out_goes_on(circuit: Circuit) -> None:
    member("reader"), member("writer", left_out=True)
    fail("reader", NOW)

    recover(NOW + SECOND)

    assert [run.name for run in Run.objects.queued()] == ["writer"]
    assert [run.name for run in claim(NOW + MINUTE)] == []  # its fire of NOW is still open


def test_who_is_left_out_of_an_open_circuit_goes_on_and_is_taken_in_again(
    circuit: Circuit,
) -> None:
    member("reader"), member("writer")
    runs.open_circuit(circuit, by="ann", reason="works", now=NOW - SECOND)
    assert claim(NOW) == []
    writer = Job.objects.get(name="writer")

    assert runs.leave_out(circuit, writer, by="ann", now=NOW)
    assert not runs.leave_out(circuit, writer, by="ann", now=NOW)
    recover(NOW + MINUTE - SECOND)
    assert [run.name for run in claim(NOW + MINUTE)] == ["writer"]

    assert runs.take_in(circuit, writer, by="ann", now=NOW)
    recover(NOW + MINUTE)
    assert Run.objects.get(name="writer", scheduled_at=NOW + MINUTE).reason == Reason.CIRCUIT


def test_a_job_of_another_circuit_cannot_be_left_out(circuit: Circuit) -> None:
    job = make_job("stranger")
    with pytest.raises(runs.NotAMember, match="'stranger' does not belong to the circuit 'edge'"):
        runs.leave_out(circuit, job, by="ann", now=NOW)


def test_a_service_that_fails_opens_its_circuit(circuit: Circuit) -> None:
    member("listener", "always")
    fail("listener", NOW)
    assert is_open()


def test_two_members_that_fail_open_it_once(circuit: Circuit) -> None:
    member("reader"), member("writer")
    reader, writer = claim(NOW)
    started = runs.start(writer.pk, 1, worker="w", now=NOW)
    assert started is not None
    end(reader, NOW)
    failed = Result(state=State.FAILED, reason=Reason.ERROR)
    assert runs.finish(writer.pk, 1, token=started.token, result=failed, now=NOW + SECOND)
    assert events() == [Event.CIRCUIT_OPENED]
    assert Circuit.objects.get().opened_at == NOW


def test_the_back_off_doubles_stays_at_its_maximum_and_outlives_a_short_closing(
    circuit: Circuit,
) -> None:
    """In seconds 30, 60, 120, 240, 480, 600, 600: never 30 again by itself."""
    now, waits = NOW, []
    for _ in range(7):
        circuit.refresh_from_db()
        assert runs.fail_circuit(circuit, member="reader", reason="", now=now)
        circuit.refresh_from_db()
        assert circuit.check_at is not None
        waits.append(circuit.check_at - now)
        now = circuit.check_at
        assert runs.take_check(circuit, now=now)
        circuit.refresh_from_db()
        assert runs.close_circuit(circuit, by="", reason="", now=now, probed=True)
        now += SECOND
    assert waits == [min(FIRST * 2**n, LONGEST) for n in range(7)]

    now += LONGEST
    circuit.refresh_from_db()
    runs.fail_circuit(circuit, member="reader", reason="", now=now)
    circuit.refresh_from_db()
    assert circuit.check_at == now + FIRST


def test_members_that_are_not_ready_are_asked_less_and_less_often(circuit: Circuit) -> None:
    runs.fail_circuit(circuit, member="reader", reason="", now=NOW)
    now, waits = NOW, []
    for _ in range(7):
        circuit.refresh_from_db()
        assert circuit.check_at is not None
        waits.append(circuit.check_at - now)
        now = circuit.check_at
        assert runs.take_check(circuit, now=now)
        assert not runs.take_check(circuit, now=now)  # another worker
    assert waits == [min(FIRST * 2**n, LONGEST) for n in range(7)]


def test_closed_by_hand_it_begins_anew(circuit: Circuit) -> None:
    Circuit.objects.update(probes=5)
    circuit.refresh_from_db()
    runs.fail_circuit(circuit, member="reader", reason="", now=NOW)
    circuit.refresh_from_db()
    runs.close_circuit(circuit, by="ann", reason="mended", now=NOW)
    assert Circuit.objects.get().probes == 0


def test_opened_by_hand_it_stays_open(circuit: Circuit) -> None:
    assert runs.open_circuit(circuit, by="ann", reason="works", now=NOW)
    assert not runs.open_circuit(circuit, by="bob", reason="works", now=NOW)
    assert circuit.opened_by == "ann"
    assert runs.due_checks(NOW + 100 * LONGEST) == []


def test_a_probe_that_comes_back_late_closes_no_later_opening(circuit: Circuit) -> None:
    runs.fail_circuit(circuit, member="reader", reason="", now=NOW)
    probed = Circuit.objects.get()
    runs.close_circuit(Circuit.objects.get(), by="ann", reason="", now=NOW + SECOND)
    runs.fail_circuit(Circuit.objects.get(), member="reader", reason="", now=NOW + MINUTE)

    assert not runs.close_circuit(probed, by="", reason="", now=NOW + MINUTE, probed=True)

    assert is_open()


def test_what_an_open_circuit_holds_is_stopped_and_not_late(circuit: Circuit) -> None:
    target = member("reader")
    runs.open_circuit(circuit, by="ann", reason="", now=NOW - SECOND)

    assert lateness.evaluate(NOW + 20 * MINUTE) == 0
    assert ledger.job_state(target.job, NOW) == ledger.JobState.STOPPED
    assert ledger.jobs_as_dicts([target.job], NOW)[0]["state"] == "Stopped"
    assert not ledger.jobs_as_dicts([target.job], NOW)[0]["paused"]
    Job.objects.update(left_out=True)
    assert lateness.evaluate(NOW + 20 * MINUTE) == 1


def test_the_failure_and_the_opening_are_one_transaction(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    member("reader")
    [run] = claim(NOW)
    monkeypatch.setattr("scheduling.runs.follow_ups.insert", lambda *args: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        end(run, NOW)

    run.refresh_from_db()
    assert run.state == State.RUNNING
    assert not is_open()


def test_it_can_be_asked_why_a_member_does_not_run(circuit: Circuit) -> None:
    target = member("reader")
    runs.open_circuit(circuit, by="ann", reason="works", now=NOW - SECOND)
    job = Job.objects.get(pk=target.job_id)

    assert "The circuit 'edge' was opened by ann: works" in obstacle(job, target, NOW)
