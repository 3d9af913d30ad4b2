"""System checks: what is wrong, and what to type."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from celery import current_app
from django.core.checks import CheckMessage
from django.test import override_settings

from scheduling import checks
from scheduling.models import Calendar
from scheduling.registry import Declaration, FollowUpRule, registry
from scheduling.schedules import Manual
from tests.factories import NOW, make_job


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_the_settings_as_shipped_are_fine():
    assert checks.check_settings(None) == []
    assert checks.check_celery(None) == []
    assert checks.check_declarations(None) == []


def test_a_misspelt_setting_is_named_with_the_right_spelling():
    with override_settings(JOBS_LAESE=timedelta(seconds=9)):
        (found,) = checks.check_settings(None)
    assert (found.id, found.hint) == ("scheduling.W001", "Write JOBS_LEASE.")
    assert "JOBS_LAESE" in found.msg


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("JOBS_LEASE", 12, "timedelta"),
        ("JOBS_TICK", "1s", "timedelta"),
        ("JOBS_CLAIM_BATCH", True, "int"),
        ("JOBS_NOTIFY", "ann@example.org", "list of str"),
        ("JOBS_RECORD_FOREIGN_TASKS", "no", "list of str"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused(name: str, value: object, kind: str):
    with override_settings(**{name: value}):
        (found,) = checks.check_settings(None)
    assert found.id == "scheduling.E001"
    assert name in found.msg
    assert kind in found.msg
    assert name in str(found.hint)


def test_all_foreign_tasks_are_asked_for_by_a_pattern():
    with override_settings(JOBS_RECORD_FOREIGN_TASKS=True):
        (found,) = checks.check_settings(None)
    assert found.id == "scheduling.E001"
    assert '("*",)' in str(found.hint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBS_LEASE", None),
        ("JOBS_LEASE", timedelta(seconds=9)),
        ("JOBS_CATCH_UP_RATE", 5),
        ("JOBS_NOTIFY", ["ann@example.org"]),
    ],
)
def test_a_setting_of_the_right_type_is_fine(name: str, value: object):
    with override_settings(**{name: value}):
        assert checks.check_settings(None) == []


def test_a_wrong_declaration_is_told_but_does_not_stop_a_migration():
    with override_settings(CELERY_BEAT_SCHEDULE={"mail": {"task": "mail.send"}}):
        (found,) = checks.check_declarations(None)
    assert found.id == "scheduling.W007"
    assert not found.is_serious()
    assert "'mail'" in found.msg


def declare(monkeypatch: pytest.MonkeyPatch, **follow_ups: str) -> None:
    for name, follower in follow_ups.items():
        declaration = Declaration(
            name=name,
            kind="task",
            declared_in="function",
            task=name,
            schedule=Manual(),
            follow_ups=(FollowUpRule(follower=follower),),
        )
        monkeypatch.setitem(registry._by_name, name, declaration)


def test_a_cycle_of_follow_ups_is_told_once_with_its_path(monkeypatch):
    declare(monkeypatch, a="b", b="c", c="a", d="a")
    (found,) = checks.check_declarations(None)
    assert found.id == "scheduling.W008"
    assert "a -> b -> c -> a" in found.msg


def test_a_circuit_that_looks_misspelt_is_told(monkeypatch):
    for name, circuit in {"a": "payments", "b": "payments", "c": "paymnts", "d": "mail"}.items():
        declaration = Declaration(
            name=name,
            kind="task",
            declared_in="function",
            task=name,
            schedule=Manual(),
            circuit=circuit,
        )
        monkeypatch.setitem(registry._by_name, name, declaration)
    (found,) = checks.check_declarations(None)
    assert found.id == "scheduling.W010"
    assert "'c'" in found.msg
    assert "'paymnts'" in found.msg
    assert '"payments"' in str(found.hint)


@override_settings(JOBS_SEATS={"api": 0, "web": 1000, "all": 1001})
def test_a_lock_has_between_one_and_a_thousand_seats() -> None:
    found = checks.check_settings(None)
    assert [each.id for each in found] == ["scheduling.E002"] * 2
    assert "'api' 0" in found[0].msg
    assert "'all' 1001" in found[1].msg


def test_a_status_that_nobody_asks_is_told() -> None:
    with_hook = Declaration(
        name="feed",
        kind="task",
        declared_in="function",
        schedule=Manual(),
        task="x",
        status=lambda: True,
    )
    (found,) = checks._unasked([with_hook])
    assert found.id == "scheduling.W013"
    assert list(checks._unasked([replace(with_hook, circuit="feeds")])) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("days", "words"),
    [
        ("", ["has no days"]),
        ("# to be filled", ["has no days"]),
        ("2020-01-01", ["no day after 2020-01-01"]),
        ("christmas", ["cannot be read", "Line 1"]),
        ("12-25", []),
        ("2020-01-01\n2099-12-25", []),
    ],
)
def test_a_calendar_that_leaves_out_nothing_is_told(days: str, words: list[str]):
    Calendar.objects.create(name="unused")
    Calendar.objects.create(name="holidays", days=days, timezone="Europe/Berlin")
    make_job("work", calendar_id="holidays")
    make_job("gone", calendar_id="unused", retired_at=NOW)
    found = checks.check_calendars(None, databases=["default"])
    assert ids(found) == ["scheduling.W011"] * bool(words)
    for word in words:
        assert word in found[0].msg
    assert checks.check_calendars(None) == []


@pytest.mark.parametrize(
    ("option", "value", "id_"),
    [
        ("task_serializer", "pickle", "scheduling.W002"),
        ("accept_content", ["json", "pickle"], "scheduling.W002"),
        ("worker_prefetch_multiplier", 4, "scheduling.W003"),
        ("worker_disable_prefetch", False, "scheduling.W003"),
        ("broker_transport_options", {"visibility_timeout": 60}, "scheduling.W004"),
        (
            "beat_scheduler",
            "django_celery_beat.schedulers:DatabaseScheduler",
            "scheduling.W005",
        ),
    ],
)
def test_celerys_settings_are_looked_at(monkeypatch, option: str, value: object, id_: str):
    monkeypatch.setitem(current_app.conf, option, value)
    (found,) = checks.check_celery(None)
    assert found.id == id_
    assert "Write CELERY_" in str(found.hint)


def test_the_visibility_timeout_is_compared_with_the_longest_limit(monkeypatch):
    declaration = Declaration(
        name="archive",
        kind="command",
        command="archive",
        declared_in="function",
        schedule=Manual(),
        hard_limit=timedelta(days=2),
    )
    monkeypatch.setitem(registry._by_name, "archive", declaration)
    (found,) = checks.check_celery(None)
    assert "2 days, 0:00:00 of job 'archive'" in found.msg
    assert "345600" in str(found.hint)
