"""Fields of the job's form that are typed as text: memory, failures, recipients; and joins."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

from scheduling import clock, runs, sync
from scheduling.models import FollowUp, Job
from tests.factories import make_job
from tests.integration.admin_pages import declared, errors_of, log_in, page, saved, text_of
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

GIB = 2**30


@pytest.fixture
def editor() -> Client:
    return log_in("view_job", "change_job", "add_job")


def test_new_fields_are_saved_as_overrides(editor: Client) -> None:
    job = declared()
    response = saved(
        editor,
        job,
        memory_limit="2G",
        retry_on="requests.exceptions.Timeout\nOSError\n75",
        locks_until_next_fire="on",
    )
    assert response.status_code == 302
    job.refresh_from_db()
    assert (job.memory_limit, job.locks_until_next_fire) == (2 * GIB, True)
    assert job.retry_on == ["requests.exceptions.Timeout", "OSError", 75]
    assert job.overrides.keys() == {"memory_limit", "retry_on", "locks_until_next_fire"}


def test_an_unchanged_form_overrides_none_of_them(editor: Client) -> None:
    job = declared(memory_limit=1536 * 2**20, retry_on=["OSError", 75], locks_until_next_fire=True)
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    assert form["memory_limit"].value() == "1536M"
    assert form["retry_on"].value() == "OSError\n75"
    assert saved(editor, job, memory_limit=f"{1536 * 1024}K").status_code == 302
    job.refresh_from_db()
    assert job.overrides == {}


def test_they_are_emptied_again(editor: Client) -> None:
    job = declared(memory_limit=GIB, retry_on=["OSError"])
    assert saved(editor, job, memory_limit="", retry_on="").status_code == 302
    job.refresh_from_db()
    assert (job.memory_limit, job.retry_on) == (None, [])


def test_an_override_of_memory_is_told_as_people_write_it(editor: Client) -> None:
    job = declared(memory_limit=GIB)
    sync.set_override(job, "memory_limit", 512 * 2**20, by="bob", now=clock.now())
    assert "Set here by bob" in text_of(editor.get(page("scheduling_job_change", job.pk)))
    assert "In the code: 1G" in text_of(editor.get(page("scheduling_job_change", job.pk)))
    shown = text_of(editor.get(page("scheduling_job_reset", job.pk)))
    assert "512M" in shown
    assert "1G" in shown


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("memory_limit", "lots", "'lots' is no limit"),
        ("memory_limit", "-512M", "'-512M' is no limit"),
        ("memory_limit", "15M", "at least 16M"),
        ("memory_limit", "999999999999999G", "is no limit"),
        ("memory_limit", "1" * 5000, "is no limit"),
        ("memory_limit", "512", "such as 512M"),
        ("retry_on", "no such error", "neither the name of an exception"),
        ("retry_on", "OSError\n256", "256 is neither"),
        ("retry_on", "0", "0 is neither"),
        ("retry_on", "1" * 5000, "neither"),
        ("recipients", "slack", "no channel 'slack'; JOBS_CHANNELS has: mattermost, pager"),
        ("recipients", "not an address", "not an e-mail address or the name of a channel"),
    ],
)
def test_what_means_nothing_is_an_error_at_its_field(
    field: str, value: str, said: str, editor: Client, settings: Settings
) -> None:
    settings.JOBS_CHANNELS = {"pager": "json://localhost", "mattermost": "json://localhost"}
    assert said in " ".join(errors_of(saved(editor, declared(), **{field: value}))[field])


def test_recipients_are_addresses_and_channels(editor: Client, settings: Settings) -> None:
    settings.JOBS_CHANNELS = {"pager": "json://localhost"}
    job = declared()
    assert saved(editor, job, recipients="ann@example.org\npager").status_code == 302
    job.refresh_from_db()
    assert job.recipients == ["ann@example.org", "pager"]


# --- joins


@pytest.fixture
def report() -> Job:
    """It follows both of two imports, and any end of a third job."""
    follower = make_job("report")
    for name, on, join in (
        ("import_a", "success", True),
        ("import_b", "success", True),
        ("close", "any", False),
    ):
        job = make_job(name)
        runs.adopt(job, now=clock.now())
        FollowUp.objects.create(job=job, follower=follower, on=on, join=join)
    runs.adopt(follower, now=clock.now())
    return follower


def test_a_join_is_told_where_the_job_is_shown(report: Job, editor: Client) -> None:
    shown = text_of(editor.get(page("scheduling_job_change", report.pk)))
    assert "After close ends or after import_a succeeds and import_b succeeds" in shown
    assert "Runs after success of import_a , once the others that it waits for" in shown
    leader = Job.objects.get(name="import_a")
    assert "once the other jobs that it waits for have ended, too" in text_of(
        editor.get(page("scheduling_job_change", leader.pk))
    )
    (row,) = [row for row in jobs("list", "--json").document() if row["name"] == "report"]
    assert row["sentence"] == "after close ends or after import_a succeeds and import_b succeeds"
    assert "report on success with others" in jobs("show", "import_a").stdout


def test_a_join_is_made_in_the_form(editor: Client) -> None:
    leader, follower = declared("import_a"), make_job("report")
    rule = {
        "follow_ups-TOTAL_FORMS": "1",
        "follow_ups-0-follower": str(follower.pk),
        "follow_ups-0-on": "success",
        "follow_ups-0-join": "on",
        "follow_ups-0-job": str(leader.pk),
    }
    assert saved(editor, leader, **rule).status_code == 302
    assert FollowUp.objects.get(job=leader).join


def test_show_tells_people_of_locks_retries_and_memory() -> None:
    make_job(
        "mails",
        locks=["ledger"],
        locks_until_next_fire=True,
        retries=2,
        retry_on=["OSError", 75],
        memory_limit=GIB,
    )
    told = jobs("show", "mails").stdout
    for line in ("ledger until the next fire", "2 on OSError, 75", "1G"):
        assert line in told
