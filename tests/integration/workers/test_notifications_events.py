"""Who is told of what: GeoHealthCheck's table, lost runs, pauses, mutes, and no alert lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from scheduling import runs
from scheduling.lateness import count_late
from scheduling.models import Circuit, Event, Notification, Reason, Resource, Run, State, Target
from scheduling.runs import telling
from tests.factories import NOW, make_job, make_run, make_target
from workers import notifications
from workers.notifications import sending

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
GOOD = runs.Result(state=State.SUCCEEDED)
BAD = runs.Result(state=State.FAILED, reason=Reason.ERROR, error="KeyError: 'gone'")


@pytest.fixture(autouse=True)
def addresses(settings: Any) -> Iterator[None]:
    settings.JOBS_NOTIFY = ["ops@example.org"]
    yield
    sending.forget()


def end(target: Target, result: runs.Result = BAD, *, at: datetime = NOW) -> Run:
    run = make_run(target)
    begun = runs.start(run.pk, 1, worker="w", now=at)
    assert begun is not None
    assert runs.finish(run.pk, 1, token=begun.token, result=result, now=at)
    return Run.objects.get(pk=run.pk)


def lose(target: Target, *, at: datetime = NOW) -> Run:
    run = make_run(target)
    begun = runs.start(run.pk, 1, worker="w", now=at)
    assert begun is not None
    assert runs.lose(run.pk, 1, detail="Worker w fell silent", now=at)
    return Run.objects.get(pk=run.pk)


def told() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("event", flat=True))


def subjects() -> list[str]:
    return [str(sent.subject).removeprefix("[Beatkeeper] ") for sent in mail.outbox]


# --- events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "every_run", "expected"),
    [
        ([GOOD], True, []),
        ([GOOD, GOOD], True, []),
        ([BAD], True, ["failing"]),
        ([GOOD, BAD], False, ["failing"]),
        ([BAD, GOOD], True, ["failing", "fixed"]),
        ([BAD, BAD], True, ["failing", "still_failing"]),
        ([BAD, BAD], False, ["failing"]),
        ([BAD, BAD, GOOD, GOOD], False, ["failing", "fixed"]),
    ],
    ids=[
        "passing at first is never told",
        "nor is passing again",
        "failing at first",
        "failing after success",
        "fixed",
        "still failing, when each is asked for",
        "still failing, otherwise",
        "fixed is told once",
    ],
)
def test_the_table_of_geohealthcheck(
    ends: list[runs.Result], every_run: bool, expected: list[str]
) -> None:
    target = make_target(make_job(notify_still_failing=every_run))
    for number, result in enumerate(ends):
        end(target, result, at=NOW + number * HOUR)
    assert told() == expected


def test_a_lost_run_is_told_as_lost_whatever_was_before() -> None:
    target = make_target()
    lose(target)
    end(target, at=NOW + HOUR)
    lose(target, at=NOW + 2 * HOUR)
    assert told() == ["lost", "lost"]
    end(target, at=NOW + 26 * HOUR)
    assert told() == ["lost", "lost", "still_failing"]
    end(target, GOOD, at=NOW + 27 * HOUR)
    assert told()[3:] == ["fixed"]


def test_a_lost_run_that_runs_again_tells_nobody_until_it_is_poison(settings: Any) -> None:
    settings.JOBS_LOSSES_TO_POISON = 2
    target = make_target(make_job(rerun_if_lost=True))
    run = lose(target)
    assert (run.state, told()) == (State.QUEUED, [])
    begun = runs.start(run.pk, 2, worker="w", now=NOW + HOUR)
    assert begun is not None
    runs.lose(run.pk, 2, detail="gone again", now=NOW + HOUR)
    assert Run.objects.get().reason == Reason.POISON
    assert told() == ["lost"]


def test_a_message_says_how_it_stood_before() -> None:
    target = make_target(make_job("books"))
    end(target, GOOD, at=NOW)
    end(target, BAD, at=NOW + HOUR)
    end(target, GOOD, at=NOW + 2 * HOUR)
    notifications.deliver_due(NOW + 2 * HOUR)
    assert subjects() == ["Failing: books", "Fixed: books"]
    first, second = (str(sent.body) for sent in mail.outbox)
    assert "Before: succeeded, the last time at 2026-01-05 12:00:00 UTC" in first
    assert "Error: KeyError: 'gone'" in first
    assert "Before: failing since 2026-01-05 13:00:00 UTC, 1 in a row" in second


def test_a_pause_after_failures_says_why() -> None:
    target = make_target(make_job("books", pause_after=1))
    end(target)
    notifications.deliver_due(NOW)
    assert subjects() == ["Failing: books", "Paused: books"]
    assert "1 failures in a row" in str(mail.outbox[1].body)


def test_g23_a_crash_between_the_end_and_the_mail_loses_no_mail() -> None:
    end(make_target(make_job("books")))
    # The worker is gone before it could deliver; another one's round finds the row.
    assert mail.outbox == []
    assert notifications.deliver_due(NOW + timedelta(seconds=15)) == 1
    assert notifications.deliver_due(NOW + HOUR) == 0
    assert subjects() == ["Failing: books"]


def test_a_crash_in_the_middle_of_sending_costs_one_message_more_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = mail.EmailMultiAlternatives.send

    def send_and_die(self: Any) -> None:
        send(self)
        raise SystemExit

    end(make_target(make_job("books")))
    with monkeypatch.context() as patched:
        patched.setattr(mail.EmailMultiAlternatives, "send", send_and_die)
        with pytest.raises(SystemExit):
            notifications.deliver_due(NOW)
    for hours in (1, 2, 3):
        notifications.deliver_due(NOW + hours * HOUR)
    assert subjects() == ["Failing: books"] * 2


# --- mute -----------------------------------------------------------------------------------------


def mute(scope: telling.Tellable, *, until: datetime) -> None:
    assert telling.mute(scope, by="anna", reason="we move", until=until, now=NOW)


@pytest.mark.parametrize("which", ["job", "resource", "circuit"])
def test_what_is_muted_is_written_and_not_sent(which: str) -> None:
    circuit = Circuit.objects.create(name="ledger")
    target = make_target(make_job("books", circuit=circuit), "north", resource="north")
    scopes: dict[str, telling.Tellable | None] = {
        "job": target.job,
        "resource": target.resource,
        "circuit": circuit,
    }
    scope = scopes[which]
    assert scope is not None
    mute(scope, until=NOW + HOUR)
    end(target)
    assert notifications.deliver_due(NOW) == 0
    [row] = Notification.objects.all()
    assert (row.deliver_at, row.delivered_at) == (NOW + HOUR, None)
    assert row.error == "Muted by anna: we move until 2026-01-05 13:00:00 UTC"
    assert notifications.deliver_due(NOW + HOUR / 2) == 0
    assert mail.outbox == []


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("every_run", [False, True])
def test_what_still_fails_when_the_mute_is_over_is_told_once(
    every_run: bool, by_hand: bool
) -> None:
    target = make_target(make_job("books", notify_still_failing=every_run))
    mute(target.job, until=NOW + 3 * HOUR)
    for hours in (0, 1, 2):
        end(target, at=NOW + hours * HOUR)
        notifications.deliver_due(NOW + hours * HOUR)
    if by_hand:
        assert telling.unmute(target.job, by="anna", now=NOW + 2.5 * HOUR)
        assert not telling.unmute(target.job, by="anna", now=NOW + 2.5 * HOUR)
    assert mail.outbox == []
    for hours in (3, 4):
        notifications.deliver_due(NOW + hours * HOUR)
    assert len(mail.outbox) == 1
    assert subjects()[0].endswith("ailing: books")


def test_what_was_mended_in_the_mute_is_not_told_but_what_was_lost_is() -> None:
    target, other = make_target(make_job("books")), make_target(make_job("rates"))
    for each in (target, other):
        mute(each.job, until=NOW + HOUR)
    end(target)
    lose(other)
    for each in (target, other):
        end(each, GOOD)
    notifications.deliver_due(NOW)
    assert mail.outbox == []
    notifications.deliver_due(NOW + HOUR)
    assert subjects() == ["Lost: rates"]


def lasting(**fields: Any) -> Notification:
    return Notification.objects.create(**{"created_at": NOW, "deliver_at": NOW} | fields)


def test_an_open_circuit_is_told_once_when_its_mute_is_over() -> None:
    circuit = Circuit.objects.create(name="ledger", opened_at=NOW)
    mute(circuit, until=NOW + HOUR)
    for _ in range(3):
        lasting(circuit=circuit, name="ledger", event=Event.CIRCUIT_OPENED)
    notifications.deliver_due(NOW)
    assert mail.outbox == []
    assert notifications.deliver_due(NOW + HOUR) == 1
    assert subjects() == ["Circuit open: ledger"]


def test_a_circuit_that_has_closed_in_its_mute_is_not_told_as_open() -> None:
    circuit = Circuit.objects.create(name="ledger", opened_at=NOW)
    mute(circuit, until=NOW + HOUR)
    row = lasting(circuit=circuit, name="ledger", event=Event.CIRCUIT_OPENED)
    notifications.deliver_due(NOW)
    Circuit.objects.update(opened_at=None)
    assert notifications.deliver_due(NOW + HOUR) == 0
    row.refresh_from_db()
    assert row.deliver_at is None
    assert row.error.endswith("; over since")


def test_a_late_alert_waits_for_the_end_of_the_mute_even_if_that_comes_early() -> None:
    target = make_target(make_job("books"))
    mute(target.job, until=NOW + 9 * HOUR)
    lasting(target=target, late_since=NOW, name="books", event=Event.LATE)
    notifications.deliver_due(NOW)
    assert telling.unmute(target.job, by="anna", now=NOW + HOUR)
    assert notifications.deliver_due(NOW + HOUR) == 1
    assert subjects() == ["Late: books"]


def test_a_late_target_that_has_started_in_its_mute_is_not_told_as_late() -> None:
    target = make_target(make_job("books"))
    mute(target.job, until=NOW + HOUR)
    lasting(target=target, late_since=NOW, name="books", event=Event.LATE)
    notifications.deliver_due(NOW)
    assert count_late(NOW) == 1  # whoever looks is told, mute or not
    Target.objects.filter(pk=target.pk).update(last_started_at=NOW + HOUR / 2)
    assert notifications.deliver_due(NOW + HOUR) == 0
    assert mail.outbox == []


def test_a_mute_that_is_cut_short_tells_at_its_new_end() -> None:
    target = make_target(make_job("books"))
    mute(target.job, until=NOW + 9 * HOUR)
    end(target)
    notifications.deliver_due(NOW)
    mute(target.job, until=NOW + HOUR)
    assert notifications.deliver_due(NOW) == 0
    assert notifications.deliver_due(NOW + HOUR) == 1


def test_nobody_mutes_until_a_time_that_has_passed() -> None:
    job = make_job()
    assert not telling.mute(job, by="anna", reason="", until=NOW, now=NOW)
    job.refresh_from_db()
    assert job.muted_until is None


def test_g17_the_recipients_of_a_resource_are_those_that_it_has() -> None:
    target = make_target(make_job("books"), "north", resource="north")
    Resource.objects.update(recipients=["a@example.org", "b@example.org", "c@example.org"])
    Resource.objects.update(recipients=["a@example.org", "c@example.org"])
    end(target)
    notifications.deliver_due(NOW)
    assert [sent.to for sent in mail.outbox] == [["a@example.org", "c@example.org"]]


def test_what_was_given_up_can_be_sent_again(settings: Any) -> None:
    settings.JOBS_NOTIFY = ()
    end(make_target(make_job("books")))
    notifications.deliver_due(NOW)
    [row] = Notification.objects.all()
    assert row.deliver_at is None
    settings.JOBS_NOTIFY = ["ops@example.org"]
    assert telling.send_again(row.pk, now=NOW + HOUR)
    assert not telling.send_again(row.pk, now=NOW + HOUR)
    assert notifications.deliver_due(NOW + HOUR) == 1
    assert not telling.send_again(row.pk, now=NOW + HOUR)
    assert subjects() == ["Failing: books"]
