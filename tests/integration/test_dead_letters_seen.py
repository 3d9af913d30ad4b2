"""Dead letters where people meet them: the admin, the command line, health and metrics."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from scheduling import health
from scheduling.models import DeadLetter, Spoilt
from scheduling.views.health import ASKED
from tests.factories import NOW
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
LIST = "admin:scheduling_deadletter_changelist"


def make_letter(**fields: Any) -> DeadLetter:
    values: dict[str, Any] = {"kind": Spoilt.BODY, "received_at": NOW, "queue": "celery", **fields}
    return DeadLetter.objects.create(**values)


def client_with(*permissions: str) -> Client:
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page_of(letter: DeadLetter) -> str:
    return reverse("admin:scheduling_deadletter_change", args=[letter.pk])


def test_the_list_and_the_page_escape_what_strangers_wrote() -> None:
    letter = make_letter(task=HOSTILE, detail=HOSTILE, content=HOSTILE, worker="w@x")
    client = client_with("view_deadletter", "view_run_output")
    for url in (reverse(LIST), page_of(letter)):
        page = client.get(url).content.decode()
        assert HOSTILE not in page
        assert "&lt;script&gt;alert(1)" in page


def test_the_content_is_for_those_who_may_see_what_runs_write() -> None:
    letter = make_letter(content="what they sent")
    assert (
        "what they sent" not in client_with("view_deadletter").get(page_of(letter)).content.decode()
    )


def test_nobody_guesses_the_content_letter_by_letter() -> None:
    make_letter(content="secret")
    client = client_with("view_deadletter")
    answer = client.get(reverse(LIST), {"content__startswith": "s"})
    assert answer.status_code in (302, 400)


def test_they_are_deleted_by_those_who_may_and_changed_by_nobody() -> None:
    letter = make_letter()
    looking = client_with("view_deadletter")
    chosen = {"action": "delete_selected", "_selected_action": [letter.pk], "post": "yes"}
    looking.post(reverse(LIST), chosen)
    looking.post(page_of(letter), {"detail": "changed"})
    letter.refresh_from_db()
    assert letter.detail == ""
    User.objects.all().delete()
    client_with("view_deadletter", "delete_deadletter").post(reverse(LIST), chosen)
    assert not DeadLetter.objects.exists()


def test_the_sidebar_leads_to_them() -> None:
    assert (
        reverse(LIST) in client_with("view_deadletter").get(reverse("admin:index")).content.decode()
    )


def test_the_command_line_lists_them_newest_first() -> None:
    make_letter(detail="first")
    make_letter(kind=Spoilt.TASK, task="shop.pay", detail="second")
    answer = jobs("dead-letters", "--json").document()
    assert [each["detail"] for each in answer] == ["second", "first"]
    assert answer[0]["received_at"] == NOW.isoformat()
    (only,) = jobs("dead-letters", "--kind", "task", "--json").document()
    assert only["task"] == "shop.pay"
    assert "shop.pay" in jobs("dead-letters").stdout


def test_those_of_the_last_hour_are_a_problem_and_take_no_process_out_of_service() -> None:
    (check,) = health.checks(NOW, ["dead_letters"])
    assert check.ok
    make_letter(received_at=NOW - timedelta(minutes=61))
    (check,) = health.checks(NOW, ["dead_letters"])
    assert check.ok
    make_letter(received_at=NOW - timedelta(minutes=59))
    (check,) = health.checks(NOW, ["dead_letters"])
    assert not check.ok
    assert check.detail.startswith("1 in the last hour")
    assert "dead_letters" not in ASKED


def test_they_are_counted_by_kind_for_prometheus(admin_client: Client) -> None:
    make_letter()
    text = admin_client.get("/metrics").content.decode()
    assert 'jobs_dead_letters_total{kind="body"} 1.0' in text
    assert 'jobs_dead_letters_total{kind="envelope"} 0.0' in text
