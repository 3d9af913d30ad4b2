"""The admin's pages for runs by hand: with choices, and the fires of a past range."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from scheduling import runs
from scheduling.models import Job, Run, State
from tests.factories import NOW, make_job, make_target
from tests.integration.admin_pages import log_in, text_of

pytestmark = pytest.mark.django_db

RANGE = {"after": "2026-01-01T03:00:00", "until": "2026-01-04T12:00:00"}
CHOSEN = {**RANGE, "order": "oldest", "overlap": "queue", "max_open": "1"}


@pytest.fixture
def nightly() -> Job:
    job = make_job("nightly", schedule="cron 0 3 * * *")
    make_target(job)
    return job


@pytest.fixture
def operator() -> Client:
    return log_in("view_job", "trigger_job", "view_run", "cancel_run")


def url(name: str, job: Job, *more: object) -> str:
    return reverse(f"admin:scheduling_job_{name}", args=(job.pk, *more))


def test_a_backfill_is_listed_before_it_is_made(operator: Client, nightly: Job) -> None:
    assert operator.get(url("backfill", nightly)).status_code == 200

    page = operator.post(url("backfill", nightly), {**CHOSEN, "list": "1"})

    assert "3 fire times" in text_of(page)
    assert "2 Jan 2026 03:00:00" in text_of(page)
    assert not Run.objects.exists()

    page = operator.post(url("backfill", nightly), {**CHOSEN, "make": "1"}, follow=True)

    assert Run.objects.filter(cause="backfill").count() == 3
    assert "Cancel what is open" in text_of(page)
    assert "Backfill" in LogEntry.objects.get().get_change_message()


def test_a_backfill_can_be_taken_back(operator: Client, nightly: Job) -> None:
    operator.post(url("backfill", nightly), {**CHOSEN, "make": "1"})
    made = Run.objects.values_list("backfill", flat=True)[0]

    page = operator.post(url("backfill_made", nightly, made), follow=True)

    assert "3 runs are cancelled" in text_of(page)
    assert set(Run.objects.values_list("state", flat=True)) == {State.SKIPPED}
    assert "3 runs, all ended" in text_of(operator.get(url("backfill", nightly)))
    listed = operator.get(reverse("admin:scheduling_run_changelist"), {"backfill": str(made)})
    assert len(listed.context["cl"].result_list) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"until": "2025-12-01T00:00:00"}, "is no range"),
        ({"until": "2099-01-01T00:00:00"}, "lies ahead"),
        ({"after": ""}, "required"),
        ({"after": "<b>soon</b>"}, "valid date"),
        ({"max_open": "0"}, "greater than or equal to 1"),
        ({"overlap": "maybe"}, "not one of the available choices"),
    ],
)
def test_what_cannot_be_backfilled_is_said_at_the_form(
    operator: Client, nightly: Job, changed: dict[str, str], message: str
) -> None:
    page = operator.post(url("backfill", nightly), {**CHOSEN, **changed, "make": "1"})

    assert message in text_of(page)
    assert "<b>soon" not in page.content.decode()
    assert not Run.objects.exists()


def test_a_run_by_hand_is_told_the_chosen_time(operator: Client, nightly: Job) -> None:
    assert operator.get(url("run_by_hand", nightly)).status_code == 200

    operator.post(url("run_by_hand", nightly), {"overlap": "", "as_of": "2026-01-02T03:00:00"})

    run = Run.objects.get()
    assert (run.cause, run.scheduled_at) == ("manual", datetime(2026, 1, 2, 3, tzinfo=UTC))


def test_a_run_by_hand_may_give_way(operator: Client, nightly: Job) -> None:
    runs.trigger(nightly, by="ann", now=NOW)

    operator.post(url("run_by_hand", nightly), {"overlap": "skip"})

    assert Run.objects.filter(state=State.SKIPPED, reason="overlap").count() == 1


def test_a_key_is_asked_for_where_there_are_keys(operator: Client) -> None:
    job = make_job("keyed", schedule="cron 0 3 * * *")
    make_target(job, "a")

    page = operator.post(url("run_by_hand", job), {"overlap": "", "key": "b"})
    assert "no target 'b'" in text_of(page)
    operator.post(url("run_by_hand", job), {"overlap": "", "key": "a"})

    assert Run.objects.get().key == "a"


@pytest.mark.parametrize("name", ["run_by_hand", "backfill"])
def test_who_may_not_run_jobs_is_refused(nightly: Job, name: str) -> None:
    watcher = log_in("view_job", "view_run")

    assert watcher.get(url(name, nightly)).status_code == 403
    assert watcher.post(url(name, nightly), {**CHOSEN, "make": "1"}).status_code == 403
    assert not Run.objects.exists()


def test_taking_back_needs_its_own_permission(operator: Client, nightly: Job) -> None:
    operator.post(url("backfill", nightly), {**CHOSEN, "make": "1"})
    made = Run.objects.values_list("backfill", flat=True)[0]

    refused = log_in("view_job", "trigger_job", name="bob").post(
        url("backfill_made", nightly, made)
    )

    assert refused.status_code == 403
    assert operator.get(url("backfill_made", nightly, uuid4())).status_code == 404
