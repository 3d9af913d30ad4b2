"""What an attacker or a broken browser sends: a clear refusal, never an error page."""

from __future__ import annotations

import pytest
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from scheduling import clock
from scheduling.models import Job, Notification, Resource, State, Target
from tests.factories import make_job, make_run, make_target
from tests.integration.admin_pages import declared, errors_of, log_in, page, saved, text_of

pytestmark = pytest.mark.django_db

HUGE = "9" * 30


@pytest.fixture
def admin() -> Client:
    return log_in(superuser=True, name="root")


# --- forms


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "two\nlines", "cannot be seen"),
        ("name", "turned \u202e around", "cannot be seen"),
        ("description", "\x1b[31mred", "cannot be seen"),
        ("scheduled_at_argument", "not a name", "no name of an argument"),
        ("args", "[NaN]", "Not valid JSON"),
        ("args", "[1e999]", "Not valid JSON"),
        ("args", '["\\ud800"]', "Not valid JSON"),
        ("args", '["a\\u0000b"]', "NUL"),
        ("args", "[" * 5000 + "]" * 5000, "nested too deep"),
        ("args", "1" * 5000, "Not valid JSON"),
        ("kwargs", '{"a": Infinity}', "Not valid JSON"),
        ("options", '"\\ud800"', "Not valid JSON"),
        ("options", '{"queue": 1}', "queue is 1"),
        ("options", '{"queue": ""}', "1 to 200 characters"),
        ("options", '{"queue": "a\\nb"}', "can be seen"),
        ("options", '{"priority": "high"}', "whole number from 0 to 255"),
        ("options", '{"priority": true}', "whole number from 0 to 255"),
        ("options", '{"headers": "x"}', "must be an object"),
        ("hard_limit", "0s", "the least is 1s"),
        ("soft_limit", "0s", "the least is 1s"),
        ("start_within", "0s", "the least is 1s"),
        ("retry_delay_max", "5s", "not be shorter than the first delay"),
        ("retries", "-1", "greater than or equal to 0"),
        ("locks", "a\x0bb", "cannot be seen"),
        ("locks", "a" * 301, "301 characters"),
        ("recipients", "a@example.org, b@example.org", "'a@example.org, b@example.org' is not"),
        ("recipients", "a@example.org\x0bBcc: b@example.org", "cannot be seen"),
        ("schedule", "x" * 1_000_000, "chedule"),
    ],
)
def test_an_absurd_value_is_an_error_at_its_field(
    field: str, value: str, said: str, admin: Client
) -> None:
    given = {"name": "ledger", "kind": "task", "task": "tests.testapp.jobs.note"}
    response = saved(admin, None, **{**given, field: value})
    assert said in " ".join(errors_of(response)[field])
    assert not Job.objects.filter(task="tests.testapp.jobs.note", declared_in="admin").exists()


def test_json_of_every_kind_is_kept_as_it_was_typed(admin: Client) -> None:
    job = declared()
    saved(admin, job, kwargs='{"text": "\\\\u0000 \\u00e9", "list": [1, 2.5, null, true]}')
    job.refresh_from_db()
    assert job.kwargs == {"text": "\\u0000 é", "list": [1, 2.5, None, True]}


@pytest.mark.parametrize("labels", ["1", "[]x", "[1]", '"x"', "NaN"])
def test_the_labels_of_a_resource_are_an_object(labels: str, admin: Client) -> None:
    response = admin.post(page("scheduling_resource_add"), {"key": "books", "labels": labels})
    assert "labels" in errors_of(response)


def test_labels_left_empty_are_none(admin: Client) -> None:
    admin.post(page("scheduling_resource_add"), {"key": "books", "labels": "null"})
    assert Resource.objects.get(key="books").labels == {}


@pytest.mark.parametrize("key", ["two\nlines", "\x1b[31m", "\u202e"])
def test_keys_have_only_characters_that_can_be_seen(key: str, admin: Client) -> None:
    job = declared()
    target = {"job": job.pk, "key": key, "resource": "", "schedule": "", "kwargs": "{}"}
    assert "key" in errors_of(admin.post(page("scheduling_target_add"), target))
    resource = {"key": key, "labels": "{}"}
    assert "key" in errors_of(admin.post(page("scheduling_resource_add"), resource))
    assert not Target.objects.filter(job=job).exclude(key="").exists()


# --- ids and addresses


@pytest.mark.parametrize("ticked", ["999", HUGE, "abc", "\u00b2", "-1"])
@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("model", ["job", "target"])
def test_an_id_that_is_none_is_not_chosen(
    model: str, verb: str, ticked: str, admin: Client
) -> None:
    address = page(f"scheduling_{model}_{verb}")
    data = {"id": ticked, "reason": "x", "missed": "none", "next": "https://evil.example/"}
    for response in (admin.get(address, data), admin.post(address, data)):
        assert (response.status_code, response["Location"]) == (
            302,
            page(f"scheduling_{model}_changelist"),
        )


@pytest.mark.parametrize("chosen", [HUGE, "abc", "\x00", "999", ""])
def test_a_form_that_names_a_row_by_what_is_no_id_is_refused(chosen: str, admin: Client) -> None:
    target = {"job": chosen, "key": "a", "resource": chosen, "schedule": "", "kwargs": "{}"}
    assert "job" in errors_of(admin.post(page("scheduling_target_add"), target))
    job = declared()
    rule = {"follow_ups-TOTAL_FORMS": "1", "follow_ups-0-follower": chosen}
    rule["follow_ups-0-on"] = "failure"
    assert saved(admin, job, **rule).status_code == 200
    assert not job.follow_ups.exists()


@pytest.mark.parametrize("ticked", [HUGE, "abc"])
@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("scheduling_job_changelist", "run_selected"),
        ("scheduling_target_changelist", "pause_selected"),
        ("django_celery_beat_periodictask_changelist", "disable_tasks"),
        ("uptime_endpoint_changelist", "check_selected"),
    ],
)
def test_an_action_on_an_id_that_is_none_does_nothing(
    name: str, action: str, ticked: str, admin: Client
) -> None:
    every = IntervalSchedule.objects.create(every=5, period="minutes")
    PeriodicTask.objects.create(name="row", task="shop.sell", interval=every)
    make_target(make_job("ledger"))
    response = admin.post(page(name), {"action": action, "_selected_action": ticked}, follow=True)
    assert response.status_code == 200
    assert "Nothing was chosen" in text_of(response) or "No " in text_of(response)
    assert PeriodicTask.objects.get().enabled


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("scheduling_job_changelist", {"created_at__year": "99999"}),
        ("scheduling_run_changelist", {"job__id__exact": HUGE}),
        ("scheduling_run_changelist", {"created_at__year": "0"}),
        ("scheduling_target_changelist", {"job__id__exact": HUGE}),
        ("scheduling_notification_changelist", {"created_at__year": "0"}),
    ],
)
def test_a_list_asked_for_the_impossible_says_so(
    name: str, query: dict[str, str], admin: Client
) -> None:
    make_run()
    assert admin.get(page(name, **query), follow=True).status_code == 200


# --- what a run wrote


@pytest.mark.parametrize(
    "guess", ["output__startswith", "error__contains", "kwargs__password__startswith"]
)
def test_what_a_run_wrote_cannot_be_guessed_by_filtering(guess: str) -> None:
    make_run(output="secret", error="secret", kwargs={"password": "secret"})
    client = log_in("view_run")
    assert client.get(page("scheduling_run_changelist", **{guess: "s"})).status_code == 400


@pytest.mark.parametrize(
    ("model", "guess"),
    [
        ("scheduling_job", "args__0__startswith"),
        ("scheduling_job", "kwargs__icontains"),
        ("scheduling_job", "options__headers__contains"),
        ("scheduling_job", "overrides__contains"),
        ("scheduling_job", "ping_url__startswith"),
        ("scheduling_target", "kwargs__day"),
        ("scheduling_run", "result__contains"),
        ("scheduling_source", "state__contains"),
        ("django_celery_beat_periodictask", "args__contains"),
        ("django_celery_beat_periodictask", "kwargs__contains"),
        ("django_celery_beat_periodictask", "headers__contains"),
    ],
)
def test_nor_can_arguments_be(model: str, guess: str) -> None:
    client = log_in(f"view_{model.rpartition('_')[2]}")
    assert client.get(page(f"{model}_changelist")).status_code == 200
    assert client.get(page(f"{model}_changelist", **{guess: "s"})).status_code == 400


def test_a_notification_quotes_a_run_to_those_only_who_may_see_what_it_wrote() -> None:
    run = make_run(state=State.FAILED, error="secret")
    told = Notification.objects.create(
        run=run, name="ledger", event="failing", detail="secret", created_at=clock.now()
    )
    address = page("scheduling_notification_change", told.pk)
    reader = log_in("view_notification")
    assert "secret" not in text_of(reader.get(address))
    guess = page("scheduling_notification_changelist", detail__startswith="s")
    assert reader.get(guess).status_code == 400
    insider = log_in("view_notification", "view_run_output", name="bob")
    assert "secret" in text_of(insider.get(address))
