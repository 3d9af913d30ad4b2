"""What the form of a job says of its schedule, while it is typed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from scheduling.admin.sharing import durations
from scheduling.models import Calendar, Job, State
from tests.factories import make_job, make_run, make_target
from tests.integration.admin_pages import log_in, page, text_of

pytestmark = pytest.mark.django_db

NIGHTLY = "cron 0 3 * * * tz Europe/Berlin"
HALF_PAST_TWO = "cron 30 2 * * * tz Europe/Berlin"


@pytest.fixture(autouse=True)
def travel(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def go(moment: str) -> None:
        now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        monkeypatch.setattr("scheduling.clock.now", lambda: now)

    go("2026-01-05T12:00")  # a Monday
    return go


@pytest.fixture
def viewer() -> Client:
    return log_in("view_job")


def ask(client: Client, text: str, **typed: str) -> Any:
    return client.get(page("scheduling_job_preview", text=text, **typed))


def rows(client: Client, text: str, **typed: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(client, text, **typed).context_data["rows"]
    return found


def firing(name: str, schedule: str, *, resource: str = "", **fields: Any) -> Job:
    job = make_job(name, schedule=schedule, **fields)
    make_target(job, resource=resource)
    return job


# --- the fires


def test_ten_fires_are_shown_in_the_zone_of_the_schedule_and_in_utc(viewer: Client) -> None:
    found = rows(viewer, NIGHTLY)
    assert len(found) == 10
    assert found[0]["local"] == "Tue 2026-01-06 03:00"
    assert found[0]["utc"] == "Tue 2026-01-06 02:00"
    shown = text_of(ask(viewer, NIGHTLY))
    assert "At 03:00 every day (Europe/Berlin)" in shown
    assert "Europe/Berlin UTC" in shown


def test_without_a_zone_of_its_own_a_schedule_is_shown_in_the_projects(
    viewer: Client, settings: Settings
) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    first = rows(viewer, "cron 0 3 * * *")[0]
    assert (first["local"], first["utc"]) == ("Tue 2026-01-06 12:00", "Tue 2026-01-06 03:00")


def test_where_both_zones_are_utc_there_is_one_column(viewer: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "UTC"
    assert b'<th scope="col">UTC</th>' in ask(viewer, "every 2h").content
    assert ask(viewer, "every 2h").content.count(b"UTC") == 1


@pytest.mark.parametrize(
    ("now", "rule", "marked"),
    [
        ("2026-03-27", "classic", {"Sun 2026-03-29 03:00": "clock goes forward"}),
        ("2026-03-27", "skip", {"Mon 2026-03-30 02:30": "clock goes forward"}),
        (
            "2026-10-23",
            "classic",
            {
                "Sun 2026-10-25 02:30": "the hour comes twice: first time",
                "Mon 2026-10-26 02:30": "clock goes back",
            },
        ),
    ],
)
def test_a_fire_beside_a_clock_change_is_marked(
    viewer: Client, travel: Callable[[str], None], now: str, rule: str, marked: dict[str, str]
) -> None:
    travel(now)
    found = rows(viewer, HALF_PAST_TWO, clock_change=rule)
    assert {row["local"]: row["mark"] for row in found if row["mark"]} == marked


def test_a_fire_that_comes_twice_says_which_time_it_is(
    viewer: Client, travel: Callable[[str], None]
) -> None:
    travel("2026-10-24T12:00")
    first, second, after, *_ = rows(viewer, HALF_PAST_TWO, clock_change="twice")
    assert first["local"] == second["local"] == "Sun 2026-10-25 02:30"
    assert [first["mark"], second["mark"]] == [
        "the hour comes twice: first time",
        "the hour comes twice: second time",
    ]
    assert after["mark"] == ""


def test_days_off_are_left_out_and_named(viewer: Client) -> None:
    Calendar.objects.create(name="bank", timezone="Europe/Berlin", days="2026-01-07..2026-01-08")
    answer = ask(viewer, NIGHTLY, calendar="bank")
    assert [row["local"][4:14] for row in answer.context_data["rows"]][:3] == [
        "2026-01-06",
        "2026-01-09",
        "2026-01-10",
    ]
    assert "left out: 2026-01-07 (day off), 2026-01-08 (day off)" in text_of(answer)
    assert "left out" not in text_of(ask(viewer, NIGHTLY))


def test_many_days_off_are_not_all_named(viewer: Client) -> None:
    Calendar.objects.create(name="closed", days="2026-01-06..2027-01-05")
    answer = ask(viewer, "every 10s", calendar="closed")
    assert len(answer.context_data["rows"]) == 10
    answer = ask(viewer, "cron 0 3 * * *", calendar="closed")
    assert answer.context_data["rows"][0]["utc"] == "Wed 2027-01-06 03:00"
    assert "2026-01-15 (day off) and more" in text_of(answer)


def test_a_life_that_is_typed_bounds_the_fires(viewer: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "UTC"
    life = {
        "starts_at_0": "2026-01-10",
        "starts_at_1": "03:00:00",
        "ends_at_0": "2026-01-12",
        "ends_at_1": "03:00:00",
    }
    found = rows(viewer, "cron 0 3 * * *", **life)
    assert [row["local"][4:14] for row in found] == ["2026-01-10", "2026-01-11", "2026-01-12"]
    assert len(rows(viewer, "cron 0 3 * * *", runs_left="2")) == 2
    half_typed = {"starts_at_0": "2026-01-", "starts_at_1": "", "runs_left": "x"}
    assert len(rows(viewer, "cron 0 3 * * *", **half_typed)) == 10


def test_what_the_form_does_not_have_is_the_stored_jobs(viewer: Client) -> None:
    calendar = Calendar.objects.create(name="bank", days="2026-01-06")
    job = firing("close_books", "cron 0 3 * * *", calendar=calendar, clock_change="skip")
    assert "2026-01-06 (day off)" in text_of(ask(viewer, job.schedule, job=str(job.pk)))
    shown = text_of(ask(viewer, job.schedule, job=str(job.pk), calendar=""))
    assert "day off" not in shown
    for odd in ("", "x", "0", "999999", "9" * 40, "²"):
        assert ask(viewer, job.schedule, job=odd).status_code == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("adaptive 8d between 1d and 64d factor 2", "Every 8 days at first"),
        ("every 30m after end", "after the end"),
    ],
)
def test_what_counts_from_the_ends_of_runs_has_no_fires_to_show(
    viewer: Client, text: str, words: str
) -> None:
    shown = text_of(ask(viewer, text))
    assert "no fire times are known ahead" in shown
    assert words in shown
    assert "no fire times are known ahead" not in text_of(ask(viewer, "every 5m"))


def test_what_cannot_be_read_or_fired_is_said(viewer: Client) -> None:
    assert "blue moon" in text_of(ask(viewer, "every <b>blue moon</b>"))
    assert b"<b>" not in ask(viewer, "every <b>blue moon</b>").content
    assert "make two jobs of it" in text_of(ask(viewer, "adaptive ladder | every 5m"))
    assert "No fire time is left" in text_of(ask(viewer, "once 2001-01-01T00:00:00+00:00"))
    Calendar.objects.create(name="sundays", days="12-25")
    shown = text_of(ask(viewer, "cron 0 3 25 12 *", calendar="sundays"))
    assert "never fires on a day that its calendar leaves over" in shown
    assert "No fire time is left" not in text_of(ask(viewer, "manual"))
    Calendar.objects.create(name="broken", days="soon")
    assert "soon" in text_of(ask(viewer, NIGHTLY, calendar="broken"))


# --- clashes


def test_another_job_that_holds_a_lock_that_is_typed_clashes(viewer: Client) -> None:
    firing("backup", NIGHTLY, locks=["ledger", "tape"])
    firing("elsewhere", NIGHTLY, locks=["printer"])
    found = rows(viewer, NIGHTLY, locks="ledger\nvault")
    assert [row["clashes"] for row in found] == [
        ["at 03:00 backup fires too and holds 'ledger'"]
    ] * 10
    assert all(not row["clashes"] for row in rows(viewer, NIGHTLY))


def test_a_job_does_not_clash_with_itself_nor_with_one_that_is_retired(viewer: Client) -> None:
    own = firing("close_books", NIGHTLY, locks=["ledger"])
    firing("old", NIGHTLY, locks=["ledger"], retired_at=datetime.now(UTC))
    firing("by_hand", "manual", locks=["ledger"])
    firing("broken", "every blue moon", locks=["ledger"])
    assert all(not row["clashes"] for row in rows(viewer, NIGHTLY, job=str(own.pk)))


def test_a_resource_that_targets_share_clashes(viewer: Client) -> None:
    own = firing("close_books", NIGHTLY, resource="crm")
    other = make_job("copy_crm", schedule="manual")
    make_target(other, "de", resource="crm", schedule=NIGHTLY)
    firing("names_it", "cron 0 3 6 1 * tz Europe/Berlin", locks=["crm"])
    firing("careless", NIGHTLY, resource="crm", lock_resource=False)
    first = rows(viewer, NIGHTLY, job=str(own.pk))[0]
    assert first["clashes"] == [
        "at 03:00 copy_crm/de fires too and holds 'crm'",
        "at 03:00 names_it fires too and holds 'crm'",
    ]
    alone = rows(viewer, NIGHTLY, job=str(own.pk), lock_resource="false")
    assert all(not row["clashes"] for row in alone)


def test_a_run_that_usually_takes_long_is_still_going_on(viewer: Client) -> None:
    other = firing("backup", "cron 30 23 * * * tz Europe/Berlin", locks=["ledger"])
    assert not rows(viewer, NIGHTLY, locks="ledger")[0]["clashes"]
    ran(other, hours=[4])
    (clash,) = rows(viewer, NIGHTLY, locks="ledger")[0]["clashes"]
    assert clash == "at Mon 2026-01-05 23:30 backup fires too and holds 'ledger'"


def test_the_last_ten_successes_say_how_long_a_run_takes() -> None:
    job, quiet = firing("backup", NIGHTLY), firing("quiet", NIGHTLY)
    ran(job, hours=[50, 50, *[1, 3] * 5])
    ran(job, hours=[90], state=State.FAILED)
    assert durations([job.pk, quiet.pk]) == {job.pk: timedelta(hours=2)}


def test_names_are_escaped(viewer: Client) -> None:
    firing("<i>backup</i>", NIGHTLY, locks=["<u>"])
    answer = ask(viewer, NIGHTLY, locks="<u>").content
    assert b"&lt;i&gt;backup" in answer
    assert b"<i>" not in answer
    assert b"<u>" not in answer


def test_the_number_of_queries_does_not_grow_with_the_jobs(
    viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    own = firing("close_books", NIGHTLY, locks=["ledger"], resource="crm")
    for number in range(60):
        ran(firing(f"job {number:02}", NIGHTLY, locks=["ledger"], resource="crm"), hours=[1])
    Calendar.objects.create(name="bank", days="12-25")
    ask(viewer, NIGHTLY)
    with django_assert_num_queries(10):
        # session, user, two kinds of permissions, job, calendar, resources, lockers, targets, runs
        found = rows(viewer, NIGHTLY, job=str(own.pk), calendar="bank", locks="ledger")
    assert [len(row["clashes"]) for row in found] == [3] * 10


def ran(job: Job, *, hours: list[int], state: State = State.SUCCEEDED) -> None:
    """Runs of these lengths, the first the oldest."""
    target = job.targets.get()
    for number, length in enumerate(hours):
        start = datetime(2025, 6, 1, tzinfo=UTC) + number * timedelta(days=1)
        ended = start + timedelta(hours=length)
        make_run(target, scheduled_at=start, started_at=start, ended_at=ended, state=state)


# --- who may


def test_who_may_neither_see_nor_add_jobs_gets_no_preview() -> None:
    assert ask(log_in("view_run"), "every 2h").status_code == 403


def test_who_may_only_add_jobs_learns_nothing_of_others() -> None:
    other = firing("backup", NIGHTLY, locks=["ledger"], runs_left=1)
    found = rows(log_in("add_job"), NIGHTLY, locks="ledger", job=str(other.pk))
    assert [row["clashes"] for row in found] == [[]] * 10


def test_the_forms_tell_the_browser_where_to_ask() -> None:
    client = log_in("view_job", "change_job", "add_job")
    job = firing("close_books", NIGHTLY)
    for address, pk in (
        (page("scheduling_job_add"), ""),
        (page("scheduling_job_change", job.pk), str(job.pk)),
    ):
        attributes = client.get(address).context["adminform"].form.fields["schedule"].widget.attrs
        assert attributes["data-preview"] == page("scheduling_job_preview")
        assert attributes["data-job"] == pk


def test_the_form_sends_a_calendar_by_the_name_that_the_preview_reads() -> None:
    client = log_in("view_job", "change_job", "view_calendar")
    calendar = Calendar.objects.create(name="bank", days="2026-01-06")
    form = client.get(page("scheduling_job_change", firing("close_books", NIGHTLY).pk)).context
    offered = form["adminform"].form.fields["calendar"].prepare_value(calendar)
    assert offered == "bank"
