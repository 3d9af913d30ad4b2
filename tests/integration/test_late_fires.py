"""Fires that were given up before they started, and when that makes their target late."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from scheduling import lateness, runs
from scheduling.lateness import count_late, evaluate
from scheduling.models import Notification, Run, Target
from tests.factories import NOW, make_job
from tests.integration.late_rows import MINUTE, pause, the_alert

pytestmark = pytest.mark.django_db


def claim_and_give_up(target: Target, *, at: datetime) -> None:
    """Let a beat claim and publish the fire of `at`, and skip it, since no worker begins it."""
    [run] = runs.claim(now=at, limit=10).runs
    Run.objects.filter(pk=run.pk).update(published_at=at)
    assert runs.recover(now=at + timedelta(seconds=61), reap=False).late == 1
    target.refresh_from_db()


def test_fires_skipped_as_late_in_a_row_alert_once_the_first_of_them_is_late() -> None:
    target = runs.adopt(make_job(schedule="every 2m", start_within=MINUTE), now=NOW)
    for minute in (2, 4, 6):
        claim_and_give_up(target, at=NOW + minute * MINUTE)
        row = the_alert()
        assert (row.late_since, row.deliver_at) == (NOW + 2 * MINUTE, NOW + 7 * MINUTE)
    assert "no worker is running" in row.detail
    assert count_late(NOW + 6 * MINUTE) == 0
    evaluate(NOW + 7.5 * MINUTE)
    assert the_alert() == row
    assert count_late(NOW + 7.5 * MINUTE) == 1


def start(target: Target, at: datetime) -> None:
    run = runs.trigger(target.job, by="anna", now=at)
    assert runs.start(run.pk, 1, worker="w@x/1", now=at) is not None


def test_who_starts_in_time_after_all_is_not_told_about() -> None:
    target = runs.adopt(make_job(schedule="every 1d", start_within=MINUTE), now=NOW)
    assert target.next_fire_at is not None
    fire = target.next_fire_at
    claim_and_give_up(target, at=fire)
    assert the_alert().deliver_at == fire + timedelta(hours=2.4)
    start(target, fire + timedelta(hours=1))
    evaluate(fire + timedelta(hours=2))
    assert not Notification.objects.exists()


@pytest.mark.parametrize("scope", ["everything", "job", "target"])
def test_who_is_paused_before_it_is_late_is_not_told_about(scope: str) -> None:
    target = runs.adopt(make_job(schedule="every 2m", start_within=MINUTE), now=NOW)
    claim_and_give_up(target, at=NOW + 2 * MINUTE)
    pause(target, scope)
    evaluate(NOW + 5 * MINUTE)
    assert not Notification.objects.exists()


def test_fires_that_replace_each_other_before_they_start_are_late_too() -> None:
    target = runs.adopt(make_job(schedule="every 30s", overlap="cancel"), now=NOW)
    for number in range(1, 4):
        assert runs.claim(now=NOW + number * MINUTE / 2, limit=10).runs
    assert Run.objects.filter(reason="overlap").count() == 2
    assert the_alert().late_since == NOW + MINUTE / 2
    assert the_alert().target == target


def test_a_fire_that_its_predecessor_kept_from_starting_makes_nobody_late() -> None:
    job = make_job(schedule="every 2m", overlap="wait", start_within=MINUTE)
    target = runs.adopt(job, now=NOW)
    [run] = runs.claim(now=NOW + 2 * MINUTE, limit=10).runs
    assert runs.start(run.pk, 1, worker="w@x/1", now=NOW + 2 * MINUTE) is not None
    claim_and_give_up(target, at=NOW + 4 * MINUTE)
    assert not Notification.objects.exists()


def miss(*, at: datetime) -> None:
    """Let a beat claim what it finds too old, as one does that comes too late each time."""
    lateness.note_missed(runs.claim(now=at, limit=10).skips, now=at)


def test_fires_that_beats_claim_too_late_alert_once_the_first_of_them_is_late() -> None:
    target = runs.adopt(make_job("books", schedule="every 2m", catch_up="none"), now=NOW)
    for minute in (3, 5):
        miss(at=NOW + minute * MINUTE)
        assert the_alert().target == target
        assert the_alert().late_since == NOW + 2 * MINUTE
        assert the_alert().deliver_at == NOW + 7 * MINUTE
    assert "claimed too late" in the_alert().detail
    start(target, NOW + 5.5 * MINUTE)
    evaluate(NOW + 5.5 * MINUTE)
    assert not Notification.objects.exists()
    miss(at=NOW + 59 * MINUTE)
    assert the_alert().late_since == NOW + 6 * MINUTE


def test_fires_that_are_caught_up_or_coalesced_alert_nobody() -> None:
    runs.adopt(make_job(schedule="every 2m", catch_up="latest"), now=NOW)
    miss(at=NOW + 59 * MINUTE)
    assert not Notification.objects.exists()
