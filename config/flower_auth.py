"""Put Flower behind the admin's log-in.

Every request needs the session of an active staff user who may see what runs wrote: the pages of
tasks show arguments and tracebacks.

Flower's own ways in (passwords, OAuth) give a cookie that lives for 30 days and leave `/metrics`
open. Here nothing is given: a browser sends the admin's session cookie to Flower too, since cookies
ignore the port, and it is looked up for each request. Logging out of the admin ends access at once.

What can change something (stop a worker, revoke or send a task) is for superusers: sending any task
with any arguments is more than a staff user's permissions say.
"""

from __future__ import annotations

import asyncio
from typing import Any

import django
from django.conf import settings
from django.contrib.auth import get_user
from django.db import connections
from django.http import HttpRequest
from django.utils.module_loading import import_string
from flower.api import BaseApiHandler
from flower.views import BaseHandler
from flower.views.auth import LogoutHandler
from flower.views.monitor import Healthcheck
from tornado.web import HTTPError

from config.env import beside

# Nobody's address: Flower has to believe that log-in is on, and its own way in has to stay shut.
NOBODY = "nobody@beatkeeper.invalid"

PERMISSION = "scheduling.view_run_output"
READING = frozenset({"GET", "HEAD"})


def install() -> None:
    """Guard all of Flower's handlers but its liveness probe, which says OK and nothing else."""
    django.setup()
    # The two that define prepare(); all others inherit it.
    for handler in (BaseHandler, BaseApiHandler):
        handler.prepare = require_staff
    Healthcheck.prepare = let_through
    LogoutHandler.get = go_to_admin


async def require_staff(handler: Any) -> None:
    handler.set_header("X-Frame-Options", "DENY")
    key = handler.get_cookie(settings.SESSION_COOKIE_NAME)
    user, may_see = await asyncio.to_thread(staff_user, key) if key else (None, False)
    if user is None:
        if handler.request.method in READING and not isinstance(handler, BaseApiHandler):
            handler.redirect(login_url(handler.request.host_name))
            return
        raise HTTPError(401, "Log in to the admin first.")
    if not may_see:
        raise HTTPError(403, f"Flower needs the permission {PERMISSION}; ask for it.")
    if handler.request.method not in READING and not user.is_superuser:
        raise HTTPError(403, "Only a superuser may change something here.")
    handler.current_user = user.get_username()


def staff_user(key: str) -> tuple[Any, bool]:
    """Return the active staff user whose session `key` is, or None, and whether they may see runs.

    Blocks for a few queries.
    """
    request = HttpRequest()
    request.session = import_string(f"{settings.SESSION_ENGINE}.SessionStore")(key)
    try:
        user: Any = get_user(request)
        if not (user.is_active and user.is_staff):
            return None, False
        return user, user.has_perm(PERMISSION)
    finally:
        # This thread may never come back for the connection.
        connections.close_all()


def login_url(host: str) -> str:
    return beside(f"{settings.WEB_URL}{settings.LOGIN_URL}?next=/flower/", host)


async def let_through(handler: Any) -> None:
    handler.current_user = None


def go_to_admin(handler: Any) -> None:
    handler.redirect(beside(f"{settings.WEB_URL}/admin/", handler.request.host_name))
