"""People who use the admin in tests, and what they see."""

from __future__ import annotations

import html
import re
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from scheduling import clock, runs
from scheduling.models import Job
from scheduling.models.job import DeclaredIn
from tests.factories import make_job


def log_in(*permissions: str, name: str = "alice", superuser: bool = False) -> Client:
    """Log in a member of the staff with these permissions, such as `view_job`."""
    user = User.objects.create_user(name, is_staff=True, is_superuser=superuser)
    granted = Permission.objects.filter(codename__in=permissions)
    assert len(granted) == len(permissions), f"of {permissions} there are only {granted}"
    user.user_permissions.set(granted)
    client = Client()
    client.force_login(user)
    return client


def page(name: str, *args: object, **query: str) -> str:
    return reverse(f"admin:{name}", args=args, query=query or None)


def text_of(response: Any) -> str:
    """Give the page's text without its tags, in single spaces."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def declared(name: str = "close_books", schedule: str = "every 5m", **fields: Any) -> Job:
    job = make_job(name, schedule=schedule, declared_in=DeclaredIn.FUNCTION, **fields)
    runs.adopt(job, now=clock.now())
    return job
