"""Every list: it opens, in a fixed number of queries, and nothing in it is taken for markup."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from pytest_django import DjangoAssertNumQueries

from scheduling import clock, runs
from scheduling.models import FollowUp, Notification, Resource, Run, State
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.admin_pages import log_in, page, text_of

pytestmark = pytest.mark.django_db

NASTY = "<script>alert(1)</script>"
ROWS = 50


@pytest.fixture
def admin() -> Client:
    return log_in(superuser=True, name="root")


@pytest.fixture
def many_rows() -> None:
    now = clock.now()
    every = IntervalSchedule.objects.create(every=5, period="minutes")
    for number in range(ROWS):
        job = make_job(f"job {number:02}", schedule="every 5m", description=NASTY)
        target = runs.adopt(job, now=now)
        keyed = make_target(job, f"key {number}", resource=f"https://example.org/{number}")
        run = make_run(target, scheduled_at=now, state=State.FAILED, error="boom", output="out")
        make_run(keyed, scheduled_at=now - timedelta(hours=1))
        Notification.objects.create(run=run, name=job.name, event="failing", created_at=now)
        PeriodicTask.objects.create(name=f"row {number:02}", task="shop.sell", interval=every)
    assert Resource.objects.count() >= ROWS


# Session and user are two; counting, where there is a count, is two more.
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("scheduling_job_changelist", 12),
        ("scheduling_run_changelist", 7),
        ("scheduling_target_changelist", 5),
        ("scheduling_resource_changelist", 5),
        ("scheduling_notification_changelist", 5),
        ("django_celery_beat_periodictask_changelist", 8),
        ("django_celery_beat_intervalschedule_changelist", 6),
    ],
)
@pytest.mark.usefixtures("many_rows")
def test_a_list_of_fifty_rows_takes_few_queries(
    name: str,
    most: int,
    admin: Client,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    admin.get(page("index"))  # what is read once per process
    with django_assert_max_num_queries(most):
        assert admin.get(page(name)).status_code == 200


@pytest.mark.usefixtures("many_rows")
def test_the_home_page_takes_few_queries(
    admin: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    admin.get(page("index"))
    with django_assert_max_num_queries(25):
        assert admin.get(page("index")).status_code == 200


@pytest.mark.usefixtures("many_rows")
def test_the_list_of_runs_counts_nothing_and_reads_no_output(
    admin: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(10) as seen:
        admin.get(page("scheduling_run_changelist"))
    of_runs = [query["sql"] for query in seen.captured_queries if "scheduling_run" in query["sql"]]
    assert of_runs
    assert not [sql for sql in of_runs if "COUNT(" in sql]
    assert not [sql for sql in of_runs if '"scheduling_run"."output"' in sql]


@pytest.mark.parametrize("model", ["job", "run", "target", "resource", "notification"])
def test_an_empty_list_opens(model: str, admin: Client) -> None:
    assert admin.get(page(f"scheduling_{model}_changelist")).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "auth_user_changelist",
        "auth_group_changelist",
        "django_celery_beat_crontabschedule_add",
        "django_celery_beat_intervalschedule_add",
        "django_celery_beat_solarschedule_add",
        "django_celery_beat_clockedschedule_add",
        "django_celery_beat_periodictask_add",
    ],
)
def test_the_pages_of_others_open_in_our_dress(name: str, admin: Client) -> None:
    assert admin.get(page(name)).status_code == 200


def test_names_that_look_like_markup_are_shown_as_they_are(admin: Client) -> None:
    now = clock.now()
    job = make_job(NASTY, schedule="every 5m", description=NASTY)
    target = runs.adopt(job, now=now)
    run = make_run(
        target, state=State.FAILED, reason="error", error=NASTY, output=NASTY, worker=NASTY
    )
    runs.pause(job, by=NASTY, reason=NASTY, now=now)
    target.failing_since = now
    target.save(update_fields=["failing_since"])
    make_target(job, NASTY, resource=NASTY)
    for address in (
        page("index"),
        page("scheduling_job_changelist"),
        page("scheduling_job_change", job.pk),
        page("scheduling_job_pause", id=str(job.pk)),
        page("scheduling_run_changelist"),
        page("scheduling_run_change", run.pk),
        page("scheduling_target_changelist"),
        page("scheduling_target_change", target.pk),
        page("scheduling_resource_changelist"),
    ):
        response = admin.get(address)
        assert response.status_code == 200
        assert NASTY not in response.content.decode(), address
        assert NASTY in text_of(response), address


@pytest.mark.parametrize("standing", ["failing", "running", "paused", "broken", "overridden"])
def test_the_filters_of_jobs_find_what_they_name(standing: str, admin: Client) -> None:
    now = clock.now()
    made = {name: make_job(f"a {name} one", schedule="every 5m") for name in (standing, "quiet")}
    target = make_target(made[standing], next_fire_at=now + timedelta(minutes=5))
    match standing:
        case "failing":
            target.failing_since = now
            target.save(update_fields=["failing_since"])
        case "running":
            make_run(target, state=State.RUNNING)
        case "paused":
            runs.pause(made[standing], by="bob", reason="a reason", now=now)
        case "broken":
            type(made[standing]).objects.filter(pk=made[standing].pk).update(schedule_error="what?")
        case "overridden":
            type(made[standing]).objects.filter(pk=made[standing].pk).update(
                overrides={"retries": {"code": 0, "by": "bob", "at": now.isoformat()}}
            )
    shown = text_of(admin.get(page("scheduling_job_changelist", standing=standing)))
    assert f"a {standing} one" in shown
    assert "a quiet one" not in shown


def test_retired_jobs_are_shown_when_asked_for(admin: Client) -> None:
    job = make_job("an old one", schedule="every 5m")
    runs.retire(job, now=clock.now())
    assert "an old one" not in text_of(admin.get(page("scheduling_job_changelist")))
    assert "an old one" in text_of(admin.get(page("scheduling_job_changelist", standing="retired")))


def test_jobs_are_filtered_by_queue(admin: Client) -> None:
    make_job("slow one", options={"queue": "slow"})
    make_job("plain one")
    shown = text_of(admin.get(page("scheduling_job_changelist", queue="slow")))
    assert "slow one" in shown
    assert "plain one" not in shown
    shown = text_of(admin.get(page("scheduling_job_changelist", queue="-")))
    assert "plain one" in shown


def test_runs_are_chosen_by_day_and_month(admin: Client) -> None:
    now = clock.now()
    wanted = make_run(scheduled_at=now - timedelta(days=1))
    make_run(scheduled_at=now)
    older = make_run(scheduled_at=now - timedelta(days=70))
    listed = page("scheduling_run_changelist")
    found = admin.get(listed + "?state__exact=queued")
    links = {day.text: day.url for day in found.context["days"]}
    response = admin.get(listed + links["Yesterday"])
    assert [run.pk for run in response.context["cl"].result_list] == [wanted.pk]
    assert [day.text for day in response.context["days"] if day.is_chosen] == ["Yesterday"]
    assert "state__exact=queued" in links["Yesterday"]
    month = f"{older.created_at:%B %Y}"
    response = admin.get(listed + links[month])
    assert [run.pk for run in response.context["cl"].result_list] == [older.pk]


def test_runs_are_found_by_their_id_and_their_job(admin: Client) -> None:
    run = make_run(make_target(make_job("wanted")))
    make_run(make_target(make_job("other")))
    for term in (str(run.pk), "wanted"):
        response = admin.get(page("scheduling_run_changelist", q=term))
        assert [found.pk for found in response.context["cl"].result_list] == [run.pk]


def test_runs_are_found_by_their_key_and_foreign_ones_by_their_task(admin: Client) -> None:
    keyed = make_run(make_target(make_job("wanted"), "north"))
    make_run(make_target(make_job("other"), "northern"))
    tasks = [
        Run.objects.create(
            name="shop.tasks.Refund",
            key=key,
            cause="foreign",
            state=State.SUCCEEDED,
            scheduled_at=NOW,
            created_at=NOW,
        )
        for key in ("", "north")
    ]
    for term, found in (("north", {keyed, tasks[1]}), ("refund", set(tasks)), ("nowhere", set())):
        response = admin.get(page("scheduling_run_changelist", q=term))
        assert set(response.context["cl"].result_list) == found, term


def test_the_list_of_jobs_tells_what_starts_a_job_without_a_schedule(admin: Client) -> None:
    checks = make_job("checks")
    for key in ("a", "b"):
        runs.add_target(checks, key, schedule="every 5m", now=clock.now())
    figures = make_job("figures")
    gone = make_job("gone", retired_at=clock.now())
    for job, on in ((checks, "any"), (gone, "success")):
        FollowUp.objects.create(job=job, follower=figures, on=on)
    runs.add_target(figures, "a", now=clock.now())
    shown = text_of(admin.get(page("scheduling_job_changelist", q="checks")))
    assert "2 targets, each with its own schedule" in shown
    shown = text_of(admin.get(page("scheduling_job_changelist", q="figures")))
    assert "after checks ends" in shown
    assert "gone" not in shown
    shown = text_of(admin.get(page("scheduling_job_change", figures.pk)))
    assert "After checks ends" in shown
    assert "None of its own: it runs after another job." in shown
    shown = text_of(admin.get(page("scheduling_target_changelist", q="figures")))
    assert "after checks ends" in shown
