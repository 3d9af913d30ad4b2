"""The page of a circuit, and `jobs circuits`: what they show, and who may change what."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from scheduling import clock, runs
from scheduling.models import Circuit, Job
from tests.factories import NOW, make_job
from tests.integration.admin_pages import log_in, messages_of, page, text_of
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

LOOK = ("view_circuit", "view_job")


@pytest.fixture
def circuit() -> Circuit:
    circuit = Circuit.objects.create(name="edge")
    make_job("reader", circuit=circuit, ready_since=NOW)
    make_job("writer", circuit=circuit, unready_detail="ready() gave False", asked_at=NOW)
    make_job("elsewhere")
    return circuit


def fail(circuit: Circuit) -> None:
    runs.fail_circuit(circuit, member="reader", reason="run 7 raised an error", now=clock.now())
    circuit.refresh_from_db()


def shown(circuit: Circuit, *permissions: str, name: str = "alice") -> str:
    client = log_in(*LOOK, *permissions, name=name)
    return text_of(client.get(page("scheduling_circuit_change", circuit.pk)))


def test_the_page_of_an_open_circuit_says_why_since_when_and_for_whom_it_waits(
    circuit: Circuit,
) -> None:
    assert "Closed: its members run." in shown(circuit, name="bob")
    fail(circuit)

    text = shown(circuit)

    assert "The circuit 'edge' was opened by reader: run 7 raised an error" in text
    assert "Open since" in text
    assert "asked next" in text
    assert "It waits for writer." in text
    assert "ready() gave False" in text
    assert "Stopped" in text
    assert "elsewhere" not in text


def test_the_list_marks_open_circuits(circuit: Circuit) -> None:
    fail(circuit)
    client = log_in(*LOOK)
    assert "open" in text_of(client.get(page("scheduling_circuit_changelist")))


def test_it_is_opened_and_closed_with_a_reason(circuit: Circuit) -> None:
    client = log_in(*LOOK, "pause_job")
    address = page("scheduling_circuit_open", circuit.pk)
    assert "Reason" in text_of(client.get(address))
    client.post(address, {"reason": ""})
    circuit.refresh_from_db()
    assert not circuit.is_open

    client.post(address, {"reason": "moving house"})

    circuit.refresh_from_db()
    assert (circuit.opened_by, circuit.open_reason) == ("alice", "moving house")
    text = text_of(client.get(page("scheduling_circuit_change", circuit.pk)))
    assert "Opened by hand: it stays open" in text
    again = client.post(address, {"reason": "again"}, follow=True)
    assert messages_of(again) == ["The circuit edge was opened already"]
    client.post(page("scheduling_circuit_close", circuit.pk), {"reason": "done"})
    circuit.refresh_from_db()
    assert not circuit.is_open
    said = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(said) == ["Opened: moving house", "Closed: done"]


def test_a_member_is_left_out_and_taken_in(circuit: Circuit) -> None:
    client, job = log_in(*LOOK, "pause_job"), Job.objects.get(name="writer")
    address = page("scheduling_circuit_leave_out", circuit.pk)
    assert client.get(address).status_code == 405
    client.post(address, {"job": job.pk})
    job.refresh_from_db()
    assert job.left_out
    text = text_of(client.get(page("scheduling_circuit_change", circuit.pk)))
    assert "left out" in text
    client.post(page("scheduling_circuit_take_in", circuit.pk), {"job": job.pk})
    job.refresh_from_db()
    assert not job.left_out


@pytest.mark.parametrize("wanted", ["", "x", "²", "999999", "elsewhere"])
def test_who_is_no_member_is_not_found(circuit: Circuit, wanted: str) -> None:
    client = log_in(*LOOK, "pause_job")
    if wanted == "elsewhere":
        wanted = str(Job.objects.get(name="elsewhere").pk)
    address = page("scheduling_circuit_leave_out", circuit.pk)
    assert client.post(address, {"job": wanted}).status_code == 404


@pytest.mark.parametrize("verb", ["open", "close", "leave_out", "take_in"])
def test_who_may_not_pause_changes_nothing(circuit: Circuit, verb: str) -> None:
    fail(circuit)
    client = log_in(*LOOK, "change_circuit", "change_job")
    data = {"reason": "x", "job": Job.objects.get(name="writer").pk}
    assert client.post(page(f"scheduling_circuit_{verb}", circuit.pk), data).status_code == 403
    circuit.refresh_from_db()
    assert circuit.is_open
    assert not Job.objects.filter(left_out=True).exists()
    assert "Leave out" not in shown(circuit, name="bob")


def test_the_page_asks_as_little_however_many_members_there_are(
    circuit: Circuit, django_assert_max_num_queries: Any
) -> None:
    for number in range(10):
        make_job(f"member {number}", circuit=circuit)
    client = log_in(*LOOK, "pause_job")
    with django_assert_max_num_queries(20):
        client.get(page("scheduling_circuit_change", circuit.pk))


def test_recipients_of_a_circuit_are_edited_there(circuit: Circuit) -> None:
    client = log_in(*LOOK, "change_circuit")
    address = page("scheduling_circuit_change", circuit.pk)
    fail(circuit)

    client.post(address, {"description": "the edge", "recipients": "ops@example.org"})

    circuit.refresh_from_db()
    assert (circuit.description, circuit.recipients) == ("the edge", ["ops@example.org"])
    assert circuit.is_open


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_tells_all_circuits(circuit: Circuit) -> None:
    closed = jobs("circuits", "--json")
    assert closed.code == 0
    fail(circuit)

    [told] = jobs("circuits", "--json").document()

    assert set(told) == {
        *("name", "open", "opened_at", "opened_by", "reason", "probes", "next_check_at", "members"),
    }
    assert (told["open"], told["opened_by"]) == (True, "reader")
    assert [member["name"] for member in told["members"]] == ["reader", "writer"]
    assert told["members"][1]["detail"] == "ready() gave False"
    text = jobs("circuits")
    assert text.code == 1
    assert "writer (ready() gave False)" in text.stdout


def test_the_command_line_opens_closes_leaves_out_and_takes_in(circuit: Circuit) -> None:
    assert jobs("circuits", "open", "edge", "--reason", "works", "--json").document() == {
        "changed": 1
    }
    assert jobs("circuits", "open", "edge", "--reason", "works", "--json").document() == {
        "changed": 0
    }
    assert "edge is closed" in jobs("circuits", "close", "edge", "--reason", "done").stdout
    assert "writer is left out of edge" in jobs("circuits", "leave-out", "edge", "writer").stdout
    assert "(left out)" in jobs("circuits").stdout
    assert "writer belongs to edge" in jobs("circuits", "take-in", "edge", "writer").stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["open"], "needs the name of a circuit"),
        (["open", "edge"], "needs a --reason"),
        (["open", "nowhere", "--reason", "x"], "There is no circuit 'nowhere'; known: edge"),
        (["close", "edge", "writer", "--reason", "x"], "takes no job"),
        (["leave-out", "edge"], "needs the name of a job"),
        (["leave-out", "edge", "nobody"], "No job is named 'nobody'"),
        (["leave-out", "edge", "elsewhere"], "does not belong to the circuit 'edge'"),
    ],
)
def test_unknown_names_are_clear_errors(circuit: Circuit, words: list[str], error: str) -> None:
    answer = jobs("circuits", *words, "--json")
    assert answer.code == 2
    assert error in answer.document()["error"]


def test_the_page_of_a_member_says_that_its_circuit_is_open(circuit: Circuit) -> None:
    fail(circuit)
    client = log_in(*LOOK)
    text = text_of(client.get(page("scheduling_job_change", Job.objects.get(name="writer").pk)))
    assert "The circuit 'edge' was opened by reader: run 7 raised an error" in text
    assert "Stopped" in text
