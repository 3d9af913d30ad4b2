"""What becomes of the fires of an open circuit: when it closes, and when somebody edits them."""

from __future__ import annotations

import pytest

from scheduling import runs
from scheduling.models import (
    Circuit,
    Event,
    Job,
    Reason,
    Run,
    State,
)
from scheduling.policies import CatchUp
from scheduling.runs import Result
from tests.factories import NOW
from tests.integration.circuit_members import (
    MINUTE,
    SECOND,
    accounted,
    claim,
    end,
    events,
    fail,
    member,
    recover,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def circuit() -> Circuit:
    return Circuit.objects.create(name="edge")


@pytest.mark.parametrize("minutes", [0, 1, 3])
def test_every_fire_of_the_time_that_it_was_open_is_skipped_as_circuit(
    circuit: Circuit, minutes: int
) -> None:
    """|claimed x  - open -  x closed  x claimed|"""
    target = member("reader")
    fail("reader", NOW)
    claim(NOW + MINUTE)
    circuit.refresh_from_db()

    closed = NOW + minutes * MINUTE + 30 * SECOND
    assert runs.close_circuit(circuit, by="ann", reason="mended", now=closed)
    assert not runs.close_circuit(circuit, by="ann", reason="mended", now=closed)
    claim(closed + MINUTE)

    assert accounted(target) == minutes + 2
    skips = Run.objects.filter(state=State.SKIPPED)
    assert sum(row.fires for row in skips) == minutes
    assert {row.reason for row in skips} <= {Reason.CIRCUIT}
    assert all("was opened by reader" in row.detail for row in skips)
    assert events() == [Event.CIRCUIT_OPENED, Event.CIRCUIT_CLOSED]


@pytest.mark.parametrize("schedule", ["every 30m after end", "always"])
def test_what_counts_from_its_end_begins_at_once_when_it_closes(
    circuit: Circuit, schedule: str
) -> None:
    member("reader")
    other = member("other", schedule)
    runs.open_circuit(circuit, by="ann", reason="", now=NOW - SECOND)
    claim(NOW)

    runs.close_circuit(circuit, by="ann", reason="", now=NOW + MINUTE)

    other.refresh_from_db()
    assert (other.next_fire_at, other.parked) == (NOW + MINUTE, "")


def test_an_open_circuit_stops_services_and_starts_them_again(circuit: Circuit) -> None:
    member("listener", "always"), member("reader")
    listener, reader = sorted(claim(NOW), key=lambda run: run.name)
    started = runs.start(listener.pk, 1, worker="w", now=NOW)
    assert started is not None
    end(reader, NOW)

    recover(NOW + SECOND)

    listener.refresh_from_db()
    assert listener.stop_requested_at is not None
    assert "reader" in listener.stop_requested_by
    stopped = Result(state=State.FAILED, reason=Reason.CANCELLED)
    assert runs.finish(listener.pk, 1, token=started.token, result=stopped, now=NOW + SECOND)
    assert claim(NOW + 20 * SECOND) == []
    circuit.refresh_from_db()
    runs.close_circuit(circuit, by="", reason="all are ready", now=NOW + 30 * SECOND, probed=True)
    assert [run.name for run in claim(NOW + 30 * SECOND)] == ["listener"]


def test_what_a_dead_closer_left_and_a_slow_claim_parked_is_armed(circuit: Circuit) -> None:
    target = member("reader")
    runs.open_circuit(circuit, by="ann", reason="", now=NOW - SECOND)
    claim(NOW)
    Circuit.objects.update(opened_at=None)

    recover(NOW + MINUTE)

    target.refresh_from_db()
    assert target.next_fire_at == NOW + 2 * MINUTE
    assert accounted(target) == 2


@pytest.mark.parametrize("first", ["circuit", "pause"])
def test_a_pause_and_an_open_circuit_each_keep_it(circuit: Circuit, first: str) -> None:
    target = member("reader")
    if first == "pause":
        runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
    runs.open_circuit(circuit, by="ann", reason="", now=NOW - SECOND)
    claim(NOW)
    if first == "circuit":
        runs.pause(target.job, by="ann", reason="", now=NOW + SECOND)

    if first == "circuit":
        runs.close_circuit(circuit, by="ann", reason="", now=NOW + MINUTE)
        assert claim(NOW + MINUTE) == []
        runs.resume(target.job, by="ann", now=NOW + 2 * MINUTE)
    else:
        runs.resume(target.job, by="ann", now=NOW + MINUTE, missed=CatchUp.ALL)
        recover(NOW + MINUTE)
        assert claim(NOW + 2 * MINUTE) == []
        runs.close_circuit(circuit, by="ann", reason="", now=NOW + 2 * MINUTE)

    assert [run.scheduled_at for run in claim(NOW + 3 * MINUTE)] == [NOW + 3 * MINUTE]
    assert accounted(target) == 4


@pytest.mark.parametrize("how", ["edit", "retire"])
def test_an_edit_while_it_is_open_accounts_for_what_was_missed(circuit: Circuit, how: str) -> None:
    target = member("reader")
    runs.open_circuit(circuit, by="ann", reason="works", now=NOW - SECOND)
    claim(NOW)

    if how == "edit":
        runs.reschedule(target.job, schedule="every 1h", now=NOW + MINUTE)
    else:
        runs.retire(target.job, now=NOW + MINUTE)

    assert accounted(target) == 2
    assert {row.reason for row in Run.objects.all()} == {Reason.CIRCUIT}


def test_a_job_that_leaves_an_open_circuit_goes_on(circuit: Circuit) -> None:
    target = member("reader")
    runs.open_circuit(circuit, by="ann", reason="", now=NOW - SECOND)
    claim(NOW)
    Job.objects.update(circuit=None)

    recover(NOW + SECOND)

    target.refresh_from_db()
    assert (target.parked, target.next_fire_at) == ("", NOW + MINUTE)
