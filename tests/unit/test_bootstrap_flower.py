"""Who may see Flower, and who may change something there (the way in: acceptance tests)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from tornado.web import HTTPError

from config import flower_auth

# Committed rows: the guard looks them up in another thread, on a connection of its own.
pytestmark = pytest.mark.django_db(transaction=True)


class Handler:
    """What the guard uses of a Flower request."""

    def __init__(self, *, cookie: str | None, method: str = "GET") -> None:
        self.cookie = cookie
        self.request = SimpleNamespace(method=method, host_name="127.0.0.1")
        self.current_user: str | None = None
        self.target: str | None = None

    def get_cookie(self, name: str) -> str | None:
        assert name == settings.SESSION_COOKIE_NAME
        return self.cookie

    def set_header(self, name: str, value: str) -> None: ...

    def redirect(self, url: str) -> None:
        self.target = url


def session_of(*, may_see: bool = True, **facts: Any) -> str:
    user = User.objects.create(username="ada", **facts)
    if may_see:
        user.user_permissions.add(Permission.objects.get(codename="view_run_output"))
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def ask(handler: Handler) -> Handler:
    asyncio.run(flower_auth.require_staff(handler))
    return handler


def test_staff_who_may_see_what_runs_wrote_may_look() -> None:
    handler = ask(Handler(cookie=session_of(is_staff=True)))
    assert (handler.current_user, handler.target) == ("ada", None)


def test_superusers_need_no_permission_of_their_own() -> None:
    session = session_of(may_see=False, is_staff=True, is_superuser=True)
    assert ask(Handler(cookie=session)).current_user == "ada"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_staff_are_told_which_permission_they_need(method: str) -> None:
    # Not sent to the log-in, which would send them back.
    handler = Handler(cookie=session_of(may_see=False, is_staff=True), method=method)
    with pytest.raises(HTTPError, match=r"needs the permission scheduling\.view_run_output"):
        ask(handler)
    assert (handler.current_user, handler.target) == (None, None)


@pytest.mark.parametrize(
    "facts", [{}, {"is_superuser": True}, {"is_staff": True, "is_active": False}], ids=str
)
def test_others_are_sent_to_the_log_in(facts: dict[str, bool]) -> None:
    handler = ask(Handler(cookie=session_of(**facts)))
    assert handler.current_user is None
    assert handler.target == f"{settings.WEB_URL}/admin/login/?next=/flower/"


@pytest.mark.parametrize(
    "cookie", [None, "", "made-up", "x" * 10_000], ids=["none", "", "?", "long"]
)
def test_a_made_up_session_is_none(cookie: str | None) -> None:
    assert ask(Handler(cookie=cookie)).target is not None


def test_a_changed_password_ends_the_session() -> None:
    session = session_of(is_staff=True)
    user = User.objects.get()
    user.set_password("another")
    user.save()
    assert ask(Handler(cookie=session)).current_user is None


def test_only_a_superuser_may_change_something() -> None:
    session = session_of(is_staff=True)
    with pytest.raises(HTTPError, match="Only a superuser"):
        ask(Handler(cookie=session, method="POST"))
    User.objects.update(is_superuser=True)
    assert ask(Handler(cookie=session, method="POST")).current_user == "ada"


def test_a_change_without_a_session_is_refused_not_redirected() -> None:
    with pytest.raises(HTTPError, match="Log in to the admin first"):
        ask(Handler(cookie=None, method="POST"))
