"""The page that answers for each fire time of a job."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings

from scheduling import clock, runs
from scheduling.models import Cause, Job, Reason, Run, State, Target
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.admin_pages import declared, log_in, page, text_of

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def ledger(job: Job, **query: str) -> str:
    return page("scheduling_job_ledger", job.pk, **query)


@pytest.fixture
def viewer() -> Client:
    return log_in("view_job", "view_run")


def many(target: Target, number: int) -> list[Run]:
    return [
        make_run(
            target,
            cause=Cause.SCHEDULE,
            scheduled_at=NOW + n * MINUTE,
            state=State.SUCCEEDED,
            started_at=NOW + n * MINUTE,
            ended_at=NOW + n * MINUTE,
        )
        for n in range(number)
    ]


def test_the_job_links_to_its_ledger(viewer: Client) -> None:
    job = declared()
    address = page("scheduling_job_change", job.pk)
    assert ledger(job) in viewer.get(address).content.decode()


def test_the_ledger_is_for_those_who_may_see_jobs() -> None:
    job = declared()
    assert log_in("view_run", name="bob").get(ledger(job)).status_code == 403
    assert Client().get(ledger(job)).status_code == 302
    assert log_in("view_job", name="carl").get(ledger(job)).status_code == 200
    assert log_in(superuser=True, name="dora").get(ledger(Job(pk=10**6))).status_code == 404


def test_runs_are_linked_for_those_who_may_see_runs() -> None:
    target = make_target(make_job())
    (run,) = many(target, 1)
    link = page("scheduling_run_change", run.pk)
    assert link in log_in("view_job", "view_run", name="bob").get(ledger(target.job)).text
    assert link not in log_in("view_job", name="carl").get(ledger(target.job)).text


def test_what_a_failure_said_is_for_those_who_may_read_output() -> None:
    target = make_target(make_job())
    make_run(target, state=State.FAILED, reason=Reason.ERROR, error="password is 1234")
    assert "1234" not in log_in("view_job", "view_run", name="bob").get(ledger(target.job)).text
    reader = log_in("view_job", "view_run_output", name="carl")
    assert "1234" in reader.get(ledger(target.job)).text


def test_each_fire_has_its_time_state_and_explanation(viewer: Client) -> None:
    target = make_target(make_job())
    make_run(
        target,
        cause=Cause.SCHEDULE,
        state=State.SKIPPED,
        reason=Reason.CANCELLED,
        detail="by <b>anna</b>",
    )
    with override_settings(TIME_ZONE="Europe/Berlin"):
        response = viewer.get(ledger(target.job))
    assert "by &lt;b&gt;anna&lt;/b&gt;" in response.text
    text = text_of(response)
    assert "Mon 5 Jan 2026 13:00:00" in text
    assert "Mon 5 Jan 2026 12:00:00 UTC" in text
    assert "skipped" in text


def test_what_comes_next_stands_on_top(viewer: Client) -> None:
    job = declared()
    assert "The next fire is that of" in text_of(viewer.get(ledger(job)))
    runs.pause(job, by="anna", reason="<i>audit</i>", now=clock.now())
    response = viewer.get(ledger(job))
    assert "has been paused by anna" in text_of(response)
    assert "<i>audit</i>" not in response.text


def test_older_pages_neither_repeat_nor_lose_a_row(viewer: Client) -> None:
    target = make_target(make_job())
    rows = many(target, 120)
    seen: list[str] = []
    address = ledger(target.job)
    while address:
        shown = viewer.get(address).context["page"]
        seen += [row.url for row in shown.rows]
        address = shown.older_url
    assert seen == [page("scheduling_run_change", run.pk) for run in reversed(rows)]


def test_a_stretch_is_chosen_by_the_clock_of_the_installation(viewer: Client) -> None:
    target = make_target(make_job())
    many(target, 10)
    asked = {"from": "2026-01-05T13:02", "to": "2026-01-05T13:04:00"}
    with override_settings(TIME_ZONE="Europe/Berlin"):
        response = viewer.get(ledger(target.job, **asked))
        assert [row.local[-8:] for row in response.context["page"].rows] == ["13:04:00", "13:03:00"]
        assert 'value="2026-01-05T13:02:00"' in response.text


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"to": "0001-01-01T00:00:00+14:00"},
        {"to": "9999-12-31T23:59:59-14:00"},
        {"from": "2026-01-05T13:02", "to": "2026-01-05T13:02"},
        {"key": "nope"},
        {"key": "\0"},
    ],
)
def test_what_cannot_be_asked_is_refused_on_the_page(viewer: Client, query: dict[str, str]) -> None:
    job = make_job()
    make_target(job, "a")
    response = viewer.get(ledger(job, **query))
    assert response.status_code == 200
    assert response.context["page"].form.errors
    assert "What became of" not in response.text


def test_of_several_targets_one_is_named_by_its_key(viewer: Client) -> None:
    job = make_job()
    for key in ("a", "b"):
        many(make_target(job, key), 2)
    response = viewer.get(ledger(job))
    assert "of its 2 targets" in text_of(response)
    assert len(response.context["page"].rows) == 4
    assert len(viewer.get(ledger(job, key="a")).context["page"].rows) == 2


def test_a_full_page_takes_few_queries(viewer: Client) -> None:
    target = make_target(make_job())
    for run in many(target, 60):
        make_run(target, scheduled_at=run.scheduled_at, state=State.QUEUED, waiting_on=run)
    viewer.get(ledger(target.job))
    with CaptureQueriesContext(connection) as asked:
        viewer.get(ledger(target.job))
    assert len(asked) <= 22, "\n".join(each["sql"][:150] for each in asked.captured_queries)
