"""The page of locks: who holds what, who waits, and who may break one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from scheduling import clock, runs
from scheduling.models import Job, Reason, Resource, Run, Seat, State, Ticket
from tests.factories import make_job, make_run, make_target
from tests.integration.admin_pages import log_in, messages_of, page, text_of
from tests.integration.test_admin_lists import NASTY

pytestmark = pytest.mark.django_db

LOOK = ("view_seat", "view_run", "view_resource")


@pytest.fixture
def holder() -> Run:
    """A run of `close_books` that holds the lock `ledger`; that of `mail_report` waits for it."""
    now = clock.now()
    first = started("close_books", "ledger")
    waiter = make_run(make_target(make_job("mail_report", locks=["ledger"])), scheduled_at=now)
    assert runs.start(waiter.pk, 1, worker="celery@south/1", now=now) is None
    return first


def started(name: str, *locks: str) -> Run:
    now = clock.now()
    run = make_run(make_target(make_job(name, locks=list(locks))), scheduled_at=now)
    assert runs.start(run.pk, 1, worker="celery@north/7", now=now) is not None
    return Run.objects.get(pk=run.pk)


def break_page(key: str = "ledger") -> str:
    return page("scheduling_seat_break", key=key)


def test_the_page_shows_holders_and_their_line(holder: Run) -> None:
    response = log_in(*LOOK).get(page("scheduling_seat_changelist"))
    (row,) = response.context["rows"]
    assert row.key == "ledger"
    shown = text_of(response)
    assert "ledger close_books on north" in shown
    assert shown.index("close_books") < shown.index("mail_report")
    assert page("scheduling_run_change", holder.pk) in response.content.decode()
    assert "Break …" not in shown


def test_a_lock_that_is_held_until_the_next_fire_says_so(holder: Run) -> None:
    Run.objects.filter(pk=holder.pk).update(state=State.SUCCEEDED, ended_at=clock.now())
    Seat.objects.update(held_until=clock.now() + timedelta(minutes=5))
    shown = text_of(log_in(*LOOK).get(page("scheduling_seat_changelist")))
    assert "its run has ended; held on until" in shown


def test_code_outside_of_runs_holds_and_waits_by_its_name() -> None:
    now = clock.now()
    later = now + timedelta(minutes=1)
    Seat.objects.create(key="disk", token=1, taken_at=now, holder="west/77/ab", lease_until=later)
    Ticket.objects.create(key="disk", holder=NASTY, since=now, lease_until=later)
    response = log_in(*LOOK).get(page("scheduling_seat_changelist"))
    assert "west/77/ab outside of runs on west" in text_of(response)
    assert NASTY not in response.content.decode()
    assert NASTY in text_of(response)


def test_locks_with_waiters_come_first_and_seats_are_counted(holder: Run) -> None:
    Resource.objects.create(key="disk", seats=3)
    started("copy", "disk")
    rows = log_in(*LOOK).get(page("scheduling_seat_changelist")).context["rows"]
    assert [(row.key, row.seats) for row in rows] == [("ledger", ""), ("disk", "1 of 3 seats")]


def test_who_may_not_see_runs_gets_no_way_to_them(holder: Run) -> None:
    response = log_in("view_seat").get(page("scheduling_seat_changelist"))
    assert "close_books" in text_of(response)
    assert str(holder.pk) not in response.content.decode()


def test_without_locks_the_page_says_what_they_are(db: None) -> None:
    Job.objects.all().delete()
    shown = text_of(log_in(*LOOK).get(page("scheduling_seat_changelist")))
    assert "Nobody holds a lock." in shown


def test_breaking_asks_why_and_leaves_a_trace(holder: Run) -> None:
    client = log_in(*LOOK, "break_lock")
    assert "Break …" in text_of(client.get(page("scheduling_seat_changelist")))
    asked = text_of(client.get(break_page()))
    assert "Held by close_books on north" in asked
    assert f"fencing token {holder.token}" in asked
    assert client.post(break_page(), {"reason": " "}).status_code == 200
    holder.refresh_from_db()
    assert holder.state == State.RUNNING
    response = client.post(break_page(), {"reason": "the host burns"}, follow=True)
    assert messages_of(response) == [
        "The lock 'ledger' is broken; it was taken from 1 of its holders"
    ]
    holder.refresh_from_db()
    assert (holder.state, holder.reason) == (State.FAILED, Reason.TERMINATED)
    assert "alice: the host burns" in holder.error
    assert LogEntry.objects.get().change_message == "Lock ledger broken: the host burns"


def test_a_lock_that_is_free_by_now_is_not_broken(holder: Run) -> None:
    client = log_in(*LOOK, "break_lock")
    for key in ("nothing", "no\0thing", "nothing" * 100, ""):
        response = client.post(break_page(key), {"reason": "x"}, follow=True)
        assert messages_of(response) == [f"Nobody holds the lock {key.replace(chr(0), '')!r} now"]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("permissions", "looks", "breaks"),
    [
        ((), 403, 403),
        (("view_run", "view_resource"), 403, 403),
        (("view_seat",), 200, 403),
        (("view_seat", "cancel_run", "pause_job", "change_job"), 200, 403),
        (("view_seat", "break_lock"), 200, 302),
        (("break_lock",), 403, 302),
    ],
)
def test_looking_and_breaking_have_permissions_of_their_own(
    permissions: tuple[str, ...], looks: int, breaks: int, holder: Run
) -> None:
    client = log_in(*permissions)
    assert client.get(page("scheduling_seat_changelist")).status_code == looks
    assert client.get(break_page()).status_code == (200 if breaks == 302 else 403)
    assert client.post(break_page(), {"reason": "x"}).status_code == breaks
    holder.refresh_from_db()
    assert holder.state == (State.FAILED if breaks == 302 else State.RUNNING)


def test_breaking_is_guarded_against_other_sites(holder: Run) -> None:
    client = log_in(*LOOK, "break_lock")
    client.handler.enforce_csrf_checks = True
    assert client.post(break_page(), {"reason": "x"}).status_code == 403


def test_the_sidebar_leads_to_locks_for_whom_may_look() -> None:
    assert "Locks" in text_of(log_in("view_seat").get(page("index")))
    assert "Locks" not in text_of(log_in("view_job", name="bob").get(page("index")))


def test_the_page_of_a_resource_shows_its_seats_and_its_line(holder: Run) -> None:
    resource = Resource.objects.create(key="ledger")
    address = page("scheduling_resource_change", resource.pk)
    shown = text_of(log_in(*LOOK).get(address))
    assert "ledger close_books on north" in shown
    assert "mail_report" in shown
    assert "Its lock" not in text_of(log_in("view_resource", name="bob").get(address))
    free = Resource.objects.create(key="disk")
    shown = text_of(
        log_in("view_resource", "view_seat", name="carol").get(
            page("scheduling_resource_change", free.pk)
        )
    )
    assert "Free: no run holds it." in shown


def test_whom_to_tell_of_a_resource_is_checked() -> None:
    editor = log_in("view_resource", "change_resource")
    resource = Resource.objects.create(key="disk")
    data = {"description": "", "labels": "{}", "seats": "", "recipients": "ann@example.org"}
    address = page("scheduling_resource_change", resource.pk)
    assert editor.post(address, data).status_code == 302
    resource.refresh_from_db()
    assert resource.recipients == ["ann@example.org"]
    refused = editor.post(address, data | {"recipients": "nobody there"})
    assert "recipients" in refused.context["adminform"].form.errors


def test_the_seats_of_a_resource_are_a_number_from_one(client: Client) -> None:
    editor = log_in("view_resource", "change_resource")
    resource = Resource.objects.create(key="disk")
    data = {"description": "", "labels": "{}", "recipients": "", "seats": "3"}
    address = page("scheduling_resource_change", resource.pk)
    assert editor.post(address, data).status_code == 302
    resource.refresh_from_db()
    assert resource.seats == 3
    for wrong in ("0", "-1", "99999999", "many"):
        refused = editor.post(address, data | {"seats": wrong})
        assert "seats" in refused.context["adminform"].form.errors
    assert editor.post(address, data | {"seats": ""}).status_code == 302
    resource.refresh_from_db()
    assert resource.seats is None
