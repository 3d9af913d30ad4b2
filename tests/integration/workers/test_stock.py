"""Shadow mode in a worker: every message of the stock scheduler leaves one row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from celery import signals
from celery.app.task import Context
from celery.worker.request import Request
from django.db import OperationalError

from config.celery import app
from scheduling.models import Cause, Run, State
from tests.integration.workers import tasks
from tests.integration.workers.conftest import send
from workers import handlers, stock

pytestmark = pytest.mark.django_db(transaction=True)

NAME = f"{tasks.PATH}.remember"
SENT = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def shadow(settings: Any) -> None:
    settings.JOBS_SHADOW = True
    tasks.act[:] = []


def headers(**others: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "task": NAME,
        "periodic_task_name": "mail",
        "celery_beat_task": True,
        "jobs_sent_at": SENT.isoformat(),
        **others,
    }


def receive(said: dict[str, Any]) -> None:
    message = SimpleNamespace(
        headers=said,
        body=b"",
        payload=([], {}, {}),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    handlers.received(request=Request(message, app=app, hostname="w@x"))


def deliver(said: dict[str, Any]) -> None:
    others = {key: value for key, value in said.items() if key not in ("id", "task")}
    send(NAME, task_id=said["id"], **others)


def test_a_received_message_leaves_a_row_with_its_name_and_time() -> None:
    said = headers()
    receive(said)
    run = Run.objects.get()
    assert (str(run.pk), run.cause, run.name, run.key) == (said["id"], Cause.FOREIGN, NAME, "mail")
    assert run.scheduled_at == SENT
    assert run.detail.endswith("what became of it is not known")
    # Nobody waits for its end.
    assert not Run.objects.open().exists()


def test_a_message_that_comes_twice_leaves_one_row() -> None:
    said = headers()
    receive(said)
    receive(said)
    assert Run.objects.count() == 1


@pytest.mark.parametrize("fails", [False, True])
def test_its_end_is_written_down_when_it_is_known(fails: bool) -> None:
    said = headers()
    receive(said)
    tasks.act[:] = [lambda: 1 / 0] if fails else []
    deliver(said)
    run = Run.objects.get()
    assert run.state == (State.FAILED if fails else State.SUCCEEDED)
    assert (run.key, run.scheduled_at, run.detail) == ("mail", SENT, "sent by the stock scheduler")


def test_a_row_that_could_not_be_written_at_first_is_written_at_the_end() -> None:
    said = headers()
    with patch("scheduling.runs.record_stock_fire", side_effect=OperationalError("away")):
        receive(said)
    assert not Run.objects.exists()
    deliver(said)
    run = Run.objects.get()
    assert (run.key, run.scheduled_at) == ("mail", SENT)


def test_what_is_expired_or_unknown_was_sent_all_the_same() -> None:
    expired, unknown = headers(), headers(task="nope")
    handlers.revoked(request=Context(**expired), terminated=False, signum=None, expired=True)
    handlers.unknown(message=SimpleNamespace(headers=unknown), name="nope", id="x", exc=KeyError())
    assert {str(pk) for pk in Run.objects.values_list("pk", flat=True)} == {
        expired["id"],
        unknown["id"],
    }


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"celery_beat_task": None}, id="by hand in the admin"),
        pytest.param({"periodic_task_name": None}, id="no periodic task"),
        pytest.param({"periodic_task_name": ["x"]}, id="no name"),
    ],
)
def test_what_no_beat_has_sent_leaves_no_row(others: dict[str, Any]) -> None:
    receive(headers(**others))
    assert not Run.objects.exists()


def test_without_shadow_mode_nothing_is_recorded(settings: Any) -> None:
    settings.JOBS_SHADOW = False
    said = headers()
    receive(said)
    deliver(said)
    assert not Run.objects.exists()


@pytest.mark.parametrize("stamp", [None, "yesterday", "2026-01-05T02:30:00", 7])
def test_without_a_time_of_sending_the_time_of_receiving_counts(stamp: Any) -> None:
    receive(headers(jobs_sent_at=stamp))
    run = Run.objects.get()
    assert run.scheduled_at == run.created_at


def test_what_a_beat_sends_is_stamped_and_a_retry_keeps_its_stamp() -> None:
    said = headers()
    del said["jobs_sent_at"]
    signals.before_task_publish.send(sender=NAME, headers=said)
    stamped = datetime.fromisoformat(said["jobs_sent_at"])
    assert datetime.now(UTC) - stamped < timedelta(minutes=1)
    first = said["jobs_sent_at"]
    signals.before_task_publish.send(sender=NAME, headers=said)
    assert said["jobs_sent_at"] == first


def test_what_others_send_is_not_stamped(settings: Any) -> None:
    by_hand = headers(celery_beat_task=None, jobs_sent_at=None)
    stock.stamp(headers=by_hand)
    settings.JOBS_SHADOW = False
    before = headers()
    del before["jobs_sent_at"]
    stock.stamp(headers=before)
    assert (by_hand["jobs_sent_at"], "jobs_sent_at" in before) == (None, False)
