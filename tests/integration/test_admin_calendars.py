"""The pages of holiday calendars: what is saved, what is refused and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from scheduling import clock
from scheduling.admin import calendars
from scheduling.models import Calendar, Run, State, Target
from tests.integration.admin_pages import declared, errors_of, log_in, page, saved, text_of
from tests.integration.periodic_rows import cron, job, make_row

pytestmark = pytest.mark.django_db

EDIT = ("view_calendar", "add_calendar", "change_calendar", "delete_calendar", "view_job")


@pytest.fixture
def editor() -> Client:
    return log_in(*EDIT)


def add(client: Client, **values: str) -> Any:
    given = {"name": "bank holidays", "timezone": "Europe/Berlin", "days": "12-25 Christmas"}
    return client.post(page("scheduling_calendar_add"), given | values)


def change(client: Client, calendar: Calendar, **values: str) -> Any:
    given = {"timezone": calendar.timezone, "days": calendar.days} | values
    return client.post(page("scheduling_calendar_change", calendar.pk), given)


def test_a_calendar_is_made(editor: Client) -> None:
    assert add(editor).status_code == 302
    made = Calendar.objects.get()
    assert (made.name, made.timezone, made.days) == (
        "bank holidays",
        "Europe/Berlin",
        "12-25 Christmas",
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("days", "12-25\r\n\r\n25 December", "Line 3, '25 December'"),
        ("days", "2026-12-31..2026-12-24", "lies before"),
        ("days", "1970-01-01..2099-12-31", "no day over"),
        ("timezone", "Europe/Nowhere", "Europe/Nowhere"),
        ("timezone", "../../etc/passwd", "passwd"),
        ("name", "turned \u202e around", "cannot be seen"),
    ],
)
def test_what_cannot_be_read_is_an_error_at_its_field(
    field: str, value: str, said: str, editor: Client
) -> None:
    assert said in " ".join(errors_of(add(editor, **{field: value}))[field])
    assert not Calendar.objects.exists()


def test_the_jobs_of_a_changed_calendar_are_armed_anew(editor: Client) -> None:
    calendar = Calendar.objects.create(name="closed")
    job = declared(schedule="cron 0 3 * * *", calendar=calendar)
    before = Target.objects.get(job=job).next_fire_at
    assert before is not None
    assert change(editor, calendar, days=f"{before.date()}").status_code == 302
    assert Target.objects.get(job=job).next_fire_at == before + timedelta(days=1)


def test_a_change_settles_what_was_owed_by_the_old_days(editor: Client) -> None:
    calendar = Calendar.objects.create(name="closed")
    job = declared(schedule="every 1h", calendar=calendar)
    missed = clock.now().replace(minute=0, second=0, microsecond=0)
    Target.objects.filter(job=job).update(next_fire_at=missed)
    change(editor, calendar, days="2099-01-01")
    assert Run.objects.filter(job=job, scheduled_at=missed, state=State.QUEUED).exists()


def test_days_that_leave_a_job_no_fire_are_refused_at_the_days(editor: Client) -> None:
    calendar = Calendar.objects.create(name="closed")
    declared(schedule="cron 0 3 25 12 *", calendar=calendar)
    said = errors_of(change(editor, calendar, days="12-25"))["days"][0]
    assert "close_books" in said
    assert "never fires" in said
    calendar.refresh_from_db()
    assert calendar.days == ""


def test_the_name_of_a_calendar_stays(editor: Client) -> None:
    calendar = Calendar.objects.create(name="closed")
    change(editor, calendar, name="another")
    assert Calendar.objects.get().name == "closed"


def test_the_page_names_its_jobs_and_the_next_days_off(editor: Client) -> None:
    calendar = Calendar.objects.create(name="closed", days="2099-12-24 Eve\n2001-01-01")
    declared(calendar=calendar)
    shown = text_of(editor.get(page("scheduling_calendar_change", calendar.pk)))
    assert "close_books" in shown
    assert "24 Dec 2099" in shown
    assert "24 Dec 2099" in text_of(editor.get(page("scheduling_calendar_changelist")))


@pytest.mark.parametrize(
    ("days", "zone", "told"),
    [
        ("", "UTC", []),
        ("12-31\n2026-12-30", "UTC", ["Wed 30 Dec 2026", "Thu 31 Dec 2026"]),
        ("12-31\n2026-12-30", "Asia/Tokyo", ["Thu 31 Dec 2026", "Fri 31 Dec 2027"]),
        ("02-29", "UTC", ["Tue 29 Feb 2028", "Sun 29 Feb 2032"]),
    ],
)
def test_the_next_days_off_begin_with_today_where_the_calendar_is(
    days: str, zone: str, told: list[str]
) -> None:
    calendar = Calendar(name="closed", days=days, timezone=zone)
    assert calendars.coming(calendar, 2, datetime(2026, 12, 30, 23, 30, tzinfo=UTC)) == told


def test_a_calendar_written_by_hand_that_cannot_be_read_still_opens(editor: Client) -> None:
    calendar = Calendar.objects.create(name="closed", days="no day")
    assert "cannot be read" in text_of(editor.get(page("scheduling_calendar_changelist")))
    address = page("scheduling_calendar_change", calendar.pk)
    assert "cannot be read" in text_of(editor.get(address))


def test_a_calendar_that_jobs_use_is_not_deleted() -> None:
    root = log_in(superuser=True)
    calendar = Calendar.objects.create(name="closed")
    declared(calendar=calendar)
    address = page("scheduling_calendar_delete", calendar.pk)
    assert "close_books" in text_of(root.get(address))
    root.post(address, {"post": "yes"})
    assert Calendar.objects.exists()


def test_who_may_only_look_changes_no_calendar() -> None:
    calendar, looker = Calendar.objects.create(name="closed"), log_in("view_calendar")
    assert looker.get(page("scheduling_calendar_change", calendar.pk)).status_code == 200
    assert change(looker, calendar, days="12-25").status_code == 403


# --- in the form of a job


def test_a_job_gets_a_calendar_by_its_form() -> None:
    editor = log_in("view_job", "change_job", name="bob")
    calendar = Calendar.objects.create(name="closed", days="2099-01-01")
    job = declared()
    response = saved(editor, job, calendar="closed", clock_change="twice")
    assert response.status_code == 302, errors_of(response)
    job.refresh_from_db()
    assert (job.calendar, job.clock_change) == (calendar, "twice")
    assert job.overrides.keys() == {"calendar_id", "clock_change"}
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    assert "Set here by bob" in str(form.fields["calendar"].help_text)


def test_a_calendar_that_leaves_no_fire_is_refused_at_its_field() -> None:
    editor = log_in("view_job", "change_job", name="bob")
    Calendar.objects.create(name="closed", days="12-25")
    job = declared()
    refused = saved(editor, job, calendar="closed", schedule="cron 0 3 25 12 *")
    assert "never fires" in errors_of(refused)["calendar"][0]
    job.refresh_from_db()
    assert job.calendar is None


def test_a_schedule_and_the_calendar_that_fits_it_are_saved_together() -> None:
    editor = log_in("view_job", "change_job", name="bob")
    old = Calendar.objects.create(name="old", days="12-25")
    Calendar.objects.create(name="new", days="12-24")
    job = declared(schedule="cron 0 3 24 12 *", calendar=old)
    response = saved(editor, job, calendar="new", schedule="cron 0 3 25 12 *")
    assert response.status_code == 302, errors_of(response)
    job.refresh_from_db()
    assert (job.calendar_id, job.schedule) == ("new", "cron 0 3 25 12 *")


def test_the_next_fires_of_a_job_leave_out_its_days_off() -> None:
    editor = log_in("view_job", name="bob")
    tomorrow = clock.now() + timedelta(days=2)
    calendar = Calendar.objects.create(name="closed", days=f"{tomorrow.date()}")
    job = declared(schedule="cron 0 3 * * *", calendar=calendar)
    shown = editor.get(page("scheduling_job_change", job.pk)).context["overview"].fires
    assert not [fire for fire in shown if f"{tomorrow:%Y-%m-%d}" in fire]


def test_a_periodic_task_keeps_to_a_calendar_that_its_job_was_given() -> None:
    editor = log_in("view_job", "change_job", name="bob")
    Calendar.objects.create(name="closed", days="2099-01-01")
    make_row(**cron())
    found = job()
    response = saved(editor, found, calendar="closed")
    assert response.status_code == 302, errors_of(response)
    found.refresh_from_db()
    assert found.calendar_id == "closed"


def test_a_reset_puts_the_codes_calendar_back() -> None:
    editor = log_in("view_job", "change_job", name="bob")
    Calendar.objects.create(name="closed", days="12-25")
    job = declared()
    saved(editor, job, calendar="closed")
    shown = editor.get(page("scheduling_job_reset", job.pk))
    assert "calendar_id" not in text_of(shown)
    editor.post(page("scheduling_job_reset", job.pk), {"field": ["calendar_id"]})
    job.refresh_from_db()
    assert (job.calendar_id, job.overrides) == (None, {})
