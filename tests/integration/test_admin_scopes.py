"""Pausing and resuming in every scope, asked of a person on one and the same page."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from scheduling import clock, runs
from scheduling.models import Calendar, Circuit, Job, Resource, Run, State, Target
from scheduling.policies import CatchUp
from scheduling.runs import Scope
from tests.factories import make_job, make_target
from tests.integration.admin_pages import declared, errors_of, log_in, page, saved, text_of

pytestmark = pytest.mark.django_db

SCOPES = ["everything", "circuit", "job", "resource", "target"]
LOOK = ("view_job", "view_circuit", "view_resource", "view_target", "view_calendar")
MISSED = 3  # fires of an hourly schedule


@pytest.fixture
def target() -> Target:
    """A target that every scope holds; it has missed some fires."""
    circuit = Circuit.objects.create(name="billing")
    job = declared(schedule="every 1h", overlap="allow", circuit=circuit)
    runs.retire_target(Target.objects.get(job=job, key=""), now=clock.now())
    resource = Resource.objects.create(key="ledger")
    target = runs.add_target(job, "books", resource=resource, now=clock.now())
    since = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=MISSED - 1)
    Target.objects.filter(pk=target.pk).update(next_fire_at=since)
    return target


def scope_of(name: str, target: Target) -> Scope:
    assert target.resource is not None
    assert target.job.circuit is not None
    scopes: dict[str, Scope] = {
        "everything": runs.installation(),
        "circuit": target.job.circuit,
        "job": target.job,
        "resource": target.resource,
        "target": target,
    }
    return scopes[name]


def question(verb: str, name: str) -> str:
    return page(
        f"scheduling_{verb}_{name}" if name == "everything" else f"scheduling_{name}_{verb}"
    )


def ask(client: Client, verb: str, name: str, scope: Scope, **answers: str) -> int:
    return client.post(question(verb, name), {"id": scope.pk, **answers}).status_code


@pytest.mark.parametrize("name", SCOPES)
def test_a_pause_tells_who_and_why_and_until(name: str, target: Target) -> None:
    client, scope = log_in(*LOOK, "pause_job"), scope_of(name, target)
    assert "Reason" in text_of(client.get(question("pause", name), {"id": scope.pk}))
    until = {"until_0": "2099-01-01", "until_1": "12:00"}
    assert ask(client, "pause", name, scope, reason="moving house", **until) == 302
    scope.refresh_from_db()
    assert (scope.paused_by, scope.pause_reason) == ("alice", "moving house")
    assert scope.paused_until is not None
    assert LogEntry.objects.get().change_message == "Paused: moving house"


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize(
    ("missed", "caught_up"), [(CatchUp.NONE, 0), (CatchUp.LATEST, 1), (CatchUp.ALL, MISSED)]
)
def test_a_resume_does_with_what_was_missed_as_it_was_told(
    missed: CatchUp, caught_up: int, name: str, target: Target
) -> None:
    client, scope = log_in(*LOOK, "pause_job"), scope_of(name, target)
    runs.pause(scope, by="bob", reason="x", now=clock.now())
    assert "missed during the pause" in text_of(
        client.get(question("resume", name), {"id": scope.pk})
    )
    assert ask(client, "resume", name, scope, missed=missed.value) == 302
    scope.refresh_from_db()
    assert scope.paused_at is None
    made = Run.objects.filter(target=target, state=State.QUEUED)
    assert made.count() == caught_up
    skips = Run.objects.filter(target=target, state=State.SKIPPED)
    assert sum(run.fires for run in skips) == MISSED - caught_up


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("name", SCOPES)
def test_who_may_not_pause_is_refused_in_every_scope(name: str, verb: str, target: Target) -> None:
    client, scope = log_in(*LOOK, "change_job", "trigger_job"), scope_of(name, target)
    assert ask(client, verb, name, scope, reason="x", missed="none") == 403
    assert client.get(question(verb, name), {"id": scope.pk}).status_code == 403
    scope.refresh_from_db()
    assert scope.paused_at is None


@pytest.mark.parametrize("name", ["circuit", "resource"])
def test_the_page_of_a_scope_offers_what_is_possible(name: str, target: Target) -> None:
    client, scope = log_in(*LOOK, "pause_job"), scope_of(name, target)
    address = page(f"scheduling_{name}_change", scope.pk)
    assert "Pause …" in text_of(client.get(address))
    runs.pause(scope, by="bob", reason="moving house", now=clock.now())
    shown = text_of(client.get(address))
    assert "Resume …" in shown
    assert "moving house" in shown
    assert "paused" in text_of(client.get(page(f"scheduling_{name}_changelist")))
    looker = log_in(*LOOK, name="carol")
    assert "Resume …" not in text_of(looker.get(address))


@pytest.mark.parametrize("name", ["everything", "circuit"])
def test_a_job_shows_what_else_holds_it(name: str, target: Target) -> None:
    client, scope = log_in(*LOOK), scope_of(name, target)
    runs.pause(scope, by="bob", reason="moving house", now=clock.now())
    overview = text_of(client.get(page("scheduling_job_change", target.job_id)))
    assert "paused by bob" in overview
    assert "moving house" in overview
    assert "Stopped" in overview
    assert "Stopped" in text_of(client.get(page("scheduling_job_changelist")))


@pytest.mark.parametrize("name", SCOPES)
def test_a_target_shows_what_holds_it(name: str, target: Target) -> None:
    client, scope = log_in(*LOOK), scope_of(name, target)
    runs.pause(scope, by="bob", reason="moving house", now=clock.now())
    assert "moving house" in text_of(client.get(page("scheduling_target_change", target.pk)))
    listed = client.get(page("scheduling_target_changelist"))
    assert "moving house" in listed.content.decode()


@pytest.mark.parametrize("name", SCOPES)
def test_the_filters_find_what_any_scope_holds(name: str, target: Target) -> None:
    client, scope = log_in(*LOOK), scope_of(name, target)
    of_targets = page("scheduling_target_changelist", standing="held")
    of_jobs = page("scheduling_job_changelist", standing="paused")
    assert [*client.get(of_targets).context["cl"].result_list] == []
    assert [*client.get(of_jobs).context["cl"].result_list] == []
    runs.pause(scope, by="bob", reason="x", now=clock.now())
    assert target in client.get(of_targets).context["cl"].result_list
    holds_the_job = name in ("everything", "circuit", "job")
    assert (target.job in client.get(of_jobs).context["cl"].result_list) == holds_the_job


@pytest.mark.parametrize(
    ("name", "most"), [("circuit", 5), ("calendar", 5), ("job", 12), ("resource", 5), ("target", 5)]
)
def test_lists_ask_as_little_however_many_circuits_there_are(
    name: str, most: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(20):
        circuit = Circuit.objects.create(name=f"circuit {number}")
        calendar = Calendar.objects.create(name=f"calendar {number}", days="12-25")
        job = make_job(circuit=circuit, calendar=calendar, schedule="every 5m")
        make_target(job, "books", resource=f"ledger {number}")
    client = log_in(superuser=True)
    client.get(page("index"))
    with django_assert_max_num_queries(most):
        assert client.get(page(f"scheduling_{name}_changelist")).status_code == 200


def test_ticked_circuits_are_paused_together() -> None:
    client = log_in(*LOOK, "pause_job")
    circuits = [Circuit.objects.create(name=name) for name in ("billing", "mail")]
    ids = [str(circuit.pk) for circuit in circuits]
    ticked = {"action": "pause_selected", "_selected_action": ids}
    asked = client.post(page("scheduling_circuit_changelist"), ticked)
    assert [*asked.context["subjects"]] == circuits
    client.post(page("scheduling_circuit_pause"), {"id": ids, "reason": "both"})
    assert Circuit.objects.filter(pause_reason="both").count() == 2


# --- circuits


def test_a_circuit_is_made_and_described_and_keeps_its_name() -> None:
    client = log_in("view_circuit", "add_circuit", "change_circuit")
    client.post(page("scheduling_circuit_add"), {"name": "billing", "description": "Money"})
    circuit = Circuit.objects.get()
    client.post(
        page("scheduling_circuit_change", circuit.pk), {"name": "x", "description": "All money"}
    )
    circuit.refresh_from_db()
    assert (circuit.name, circuit.description) == ("billing", "All money")


def test_saving_a_circuit_ends_no_pause() -> None:
    client = log_in("view_circuit", "change_circuit")
    circuit = Circuit.objects.create(name="billing")
    runs.pause(circuit, by="bob", reason="x", now=clock.now())
    client.post(page("scheduling_circuit_change", circuit.pk), {"description": "Money"})
    circuit.refresh_from_db()
    assert circuit.is_paused(clock.now())


def test_a_circuit_names_its_jobs_and_is_not_deleted_before_them() -> None:
    root, circuit = log_in(superuser=True), Circuit.objects.create(name="billing")
    declared(circuit=circuit)
    assert "close_books" in text_of(root.get(page("scheduling_circuit_change", circuit.pk)))
    root.post(page("scheduling_circuit_delete", circuit.pk), {"post": "yes"})
    assert Circuit.objects.exists()


def test_a_job_that_joins_a_paused_circuit_is_held_and_goes_on_when_it_leaves() -> None:
    editor = log_in("view_job", "change_job")
    circuit, job = Circuit.objects.create(name="billing"), declared()
    runs.pause(circuit, by="bob", reason="x", now=clock.now())
    response = saved(editor, job, circuit="billing")
    assert response.status_code == 302, errors_of(response)
    job = Job.objects.get(pk=job.pk)
    assert job.overrides.keys() == {"circuit_id"}
    assert runs.pause_of(job, None, clock.now()) is not None
    saved(editor, job, circuit="")
    assert runs.pause_of(Job.objects.get(pk=job.pk), None, clock.now()) is None
    assert Target.objects.get(job=job).next_fire_at is not None


def test_a_resource_leads_to_its_targets() -> None:
    make_target(declared(), "books", resource="ledger")
    pk = Resource.objects.get().pk
    shown = log_in(*LOOK).get(page("scheduling_resource_change", pk))
    listed = page("scheduling_target_changelist", resource__id__exact=str(pk))
    assert listed in shown.content.decode()
