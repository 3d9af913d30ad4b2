"""What else code says of a job: calendars, circuits, clock changes, counts; and overrides of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduling import ClockChange, Overlap, runs, sync
from scheduling.models import Calendar, Circuit, Job, Run
from tests.factories import NOW, make_job
from tests.integration.cli import jobs
from tests.integration.declared_code import declared_code

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
code = pytest.fixture(declared_code)


def job(name: str = "work") -> Job:
    return Job.objects.get(name=name)


def test_a_calendar_that_is_not_there_is_made_and_told_once(code):
    code(schedule="every 1h", calendar="holidays")
    code("other", calendar="holidays")
    (problem,) = sync.sync(now=NOW).problems
    assert "'holidays'" in problem
    assert "fill it in the admin" in problem
    assert (job().calendar_id, job("other").calendar_id) == ("holidays", "holidays")
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=1)
    assert sync.sync(now=NOW).problems == []


def test_days_off_are_left_out_and_come_back_with_another_calendar(code):
    Calendar.objects.create(name="holidays", days="2026-01-05")
    code(schedule="every 1h", calendar="holidays")
    assert sync.sync(now=NOW).problems == []
    assert job().targets.get().next_fire_at == NOW.replace(day=6, hour=0)
    code(schedule="every 1h")
    result = sync.sync(now=NOW + MINUTE)
    assert result.diff == {"work": ["calendar_id: holidays -> -"]}
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=1)


def test_a_job_that_its_calendar_leaves_without_a_fire_is_told_and_stops_no_other(code):
    Calendar.objects.create(name="holidays", days="12-25")
    code("christmas", schedule="cron 0 3 25 12 *", calendar="holidays")
    code("work", schedule="cron 0 3 25 12 *")
    sync.sync(now=NOW)
    assert not Job.objects.filter(name="christmas").exists()
    code("work", schedule="cron 0 3 25 12 *", calendar="holidays")
    for problem in sync.sync(now=NOW).problems:
        assert "never fires" in problem
        assert "'christmas'" in problem or "'work'" in problem
    assert (job().calendar_id, job().schedule_error) == (None, "")


def test_a_circuit_is_made_by_its_name_and_leaving_a_paused_one_goes_on(code):
    code(schedule="every 1h", circuit="payments")
    assert sync.sync(now=NOW).problems == []
    payments = Circuit.objects.get(name="payments")
    runs.pause(payments, by="ann", reason="audit", now=NOW)
    runs.claim(now=NOW + timedelta(hours=1), limit=10)
    assert job().targets.get().next_fire_at is None
    code(schedule="every 1h")
    sync.sync(now=NOW + 90 * MINUTE)
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=2)


def test_another_rule_for_clock_changes_moves_the_next_fire(code):
    spring = NOW.replace(month=3, day=29, hour=0)
    code(schedule="cron 30 2 * * * tz Europe/Berlin")
    sync.sync(now=spring)
    assert job().targets.get().next_fire_at == spring.replace(hour=1)
    code(schedule="cron 30 2 * * * tz Europe/Berlin", clock_change=ClockChange.SKIP)
    sync.sync(now=spring)
    assert job().targets.get().next_fire_at == spring.replace(day=30, minute=30)


def test_a_start_and_an_end_follow_the_code(code):
    start = NOW + timedelta(days=1)
    code(schedule="every 1h", starts_at=start, ends_at=start + timedelta(hours=1))
    sync.sync(now=NOW)
    assert job().targets.get().next_fire_at == start
    code(schedule="every 1h", ends_at=NOW + timedelta(minutes=30))
    sync.sync(now=NOW)
    assert (job().starts_at, job().targets.get().next_fire_at) == (None, None)


def test_the_first_run_is_the_codes_to_say(code):
    code(schedule="every 1h", first_run="now")
    sync.sync(now=NOW)
    (run,) = Run.objects.filter(job=job())
    assert (run.scheduled_at, run.state) == (NOW, "queued")
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=1)
    sync.sync(now=NOW)
    assert Run.objects.filter(job=job()).count() == 1


def test_a_number_of_runs_is_counted_down_and_begins_anew_when_the_code_says_another(code):
    code(schedule="every 1h", runs=2, overlap=Overlap.ALLOW)
    sync.sync(now=NOW)
    runs.claim(now=NOW + timedelta(hours=1), limit=10)
    assert sync.sync(now=NOW + timedelta(hours=1)).updated == []
    assert (job().runs_left, job().overrides) == (1, {})
    runs.claim(now=NOW + timedelta(hours=2), limit=10)
    sync.sync(now=NOW + timedelta(hours=2))
    assert (job().runs_left, job().targets.get().next_fire_at) == (0, None)
    code(schedule="every 1h", runs=3, overlap=Overlap.ALLOW)
    sync.sync(now=NOW + timedelta(hours=2))
    assert job().runs_left == 3
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=3)
    code(schedule="every 1h", overlap=Overlap.ALLOW)
    sync.sync(now=NOW + timedelta(hours=2))
    assert (job().runs_left, job().overrides) == (None, {})


def test_an_operators_number_of_runs_stays_and_can_be_reset(code):
    code(schedule="every 1h", runs=2)
    sync.sync(now=NOW)
    sync.set_override(job(), "runs_left", 9, by="ann", now=NOW)
    code(schedule="every 1h", runs=4)
    sync.sync(now=NOW)
    assert job().runs_left == 9
    assert (job().overrides["runs_left"]["by"], job().overrides["runs_left"]["code"]) == ("ann", 4)
    assert sync.reset_override(job(), now=NOW) == ["runs_left"]
    assert job().runs_left == 4
    assert sync.reset_override(job(), now=NOW) == []
    assert sync.sync(now=NOW).updated == []


@pytest.mark.parametrize("overridden", [False, True])
def test_a_declared_number_of_runs_begins_anew_when_an_operator_says_so(code, overridden):
    def again_by_hand():
        sync.set_override(job(), "runs_left", 2, by="ann", now=later)

    def again_by_reset():
        assert sync.reset_override(job(), "runs_left", now=later) == ["runs_left"]

    code(schedule="every 1h", runs=2, overlap=Overlap.ALLOW)
    sync.sync(now=NOW)
    later = NOW
    for again in (again_by_hand, again_by_reset):
        if overridden:
            sync.set_override(job(), "runs_left", 1, by="ann", now=later)
            assert job().overrides["runs_left"]["code"] == 2
        later += timedelta(hours=3)
        runs.claim(now=later, limit=10)
        assert job().runs_left == (0 if overridden else 1)
        again()
        assert (job().runs_left, job().overrides) == (2, {})
        assert job().targets.get().next_fire_at == later + timedelta(hours=1)
        assert sync.sync(now=later).updated == []


def test_an_operators_number_of_runs_stays_when_the_code_says_the_same(code):
    code(schedule="every 1h", runs=2)
    sync.sync(now=NOW)
    sync.set_override(job(), "runs_left", 9, by="ann", now=NOW)
    for number in (9, 4):
        code(schedule="every 1h", runs=number)
        sync.sync(now=NOW)
        assert (job().runs_left, job().declared_runs) == (9, number)
        assert job().overrides["runs_left"]["code"] == number


def test_a_number_of_runs_that_an_operator_gives_a_job_without_one_stays(code):
    code(schedule="every 1h")
    sync.sync(now=NOW)
    sync.set_override(job(), "runs_left", 9, by="ann", now=NOW)
    sync.sync(now=NOW)
    assert job().runs_left == 9
    sync.set_override(job(), "runs_left", None, by="ann", now=NOW)
    assert (job().runs_left, job().overrides) == (None, {})


@pytest.mark.parametrize(
    ("field", "code_value", "value", "kept"),
    [
        ("calendar_id", "holidays", None, None),
        ("calendar_id", None, "holidays", "holidays"),
        ("circuit_id", "payments", "ledger", "ledger"),
        ("clock_change", ClockChange.SKIP, "twice", "twice"),
        ("starts_at", NOW, NOW + MINUTE, NOW + MINUTE),
        ("ends_at", None, NOW + MINUTE, NOW + MINUTE),
        ("first_run", "now", "2027-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("queue_limit", 3, None, None),
        ("pause_after", 3, 7, 7),
        ("ping_url", "https://a.example.org", "", ""),
    ],
)
def test_every_field_can_be_overridden_and_put_back(code, field, code_value, value, kept):
    Calendar.objects.create(name="holidays", days="12-25")
    Circuit.objects.create(name="ledger")
    code(**{field.removesuffix("_id"): code_value})
    sync.sync(now=NOW)
    before = getattr(job(), field)
    sync.set_override(job(), field, value, by="ann", now=NOW)
    sync.sync(now=NOW)
    assert getattr(job(), field) == kept
    sync.reset_override(job(), field, now=NOW)
    assert (getattr(job(), field), job().overrides) == (before, {})
    assert sync.sync(now=NOW).updated == []


def test_a_diff_does_not_show_a_ping_address(code):
    code()
    sync.sync(now=NOW)
    code(ping_url="https://hc.example.org/secret")
    assert sync.sync(now=NOW).diff == {"work": ["ping_url: - -> ***"]}


def test_a_job_made_in_the_admin_goes_on_in_the_code_once_it_is_retired_there(code):
    made = make_job("work", schedule="every 5m")
    run = runs.trigger(runs.adopt(made, now=NOW).job, by="ann", now=NOW)
    code("work", schedule="every 1h")
    (problem,) = sync.sync(now=NOW).problems
    assert "retire that one first" in problem
    runs.retire(made, now=NOW)
    assert sync.sync(now=NOW).problems == []
    assert (job().pk, job().declared_in, job().retired_at) == (made.pk, "function", None)
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=1)
    assert Run.objects.get(pk=run.pk).job == job()


def test_only_what_somebody_has_set_is_told_as_set_by_hand(code):
    code(runs=2)
    sync.sync(now=NOW)
    assert "set by hand" not in jobs("show", "work").stdout
    sync.set_override(job(), "runs_left", 9, by="ann", now=NOW)
    assert "set by hand: runs_left" in jobs("show", "work").stdout
