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


def saved(client: Client, job: Job | None, **changes: object) -> Any:
    """Post the form as the browser would, with these fields changed."""
    address = page("scheduling_job_add") if job is None else page("scheduling_job_change", job.pk)
    form = client.get(address).context["adminform"].form
    data: dict[str, Any] = {}
    for bound in form:
        value = bound.value()
        widget = bound.field.widget
        if hasattr(widget, "widgets"):
            for number, part in enumerate(widget.decompress(value)):
                data[f"{bound.html_name}_{number}"] = part or ""
        elif value is True:
            data[bound.html_name] = "on"
        elif value is not None and value is not False:
            data[bound.html_name] = value
    data |= {"follow_ups-TOTAL_FORMS": "0", "follow_ups-INITIAL_FORMS": "0"}
    data |= changes
    return client.post(address, {name: value for name, value in data.items() if value is not None})


def errors_of(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200, "it was saved"
    return dict(response.context["adminform"].form.errors)
