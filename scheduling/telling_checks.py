"""System checks of who is told: channels that cannot be used, recipients that nobody can tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning
from django.db import DatabaseError

from scheduling import channels, declarations
from scheduling.conf import conf
from scheduling.recipients import is_address

Apps = Sequence[AppConfig] | None

MOST_ROWS = 1000


def check_channels(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"{problem}.",
            hint="Correct it in JOBS_CHANNELS; `manage.py jobs tell NAME` tries a channel.",
            id="scheduling.W020",
        )
        for name in channels.known()
        if (problem := _problem_of(name))
    ]


def _problem_of(name: str) -> str:
    try:
        channels.find(name)
    except channels.UnusableChannel as error:
        return str(error)
    return ""


def check_recipients(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Of the settings and of what the code declares."""
    declared = declarations.collect().declarations.values()
    return [
        *_untellable("JOBS_NOTIFY", conf.NOTIFY),
        *(
            warning
            for each in declared
            for warning in _untellable(f"Job {each.name!r}", each.recipients)
        ),
    ]


def check_stored_recipients(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Only with `check --database default` and when migrating."""
    from scheduling.models import Circuit, Job, Resource
    from scheduling.runs.scopes import name_of

    if not databases or "default" not in databases:
        return []
    found: list[CheckMessage] = []
    try:
        for model in (Job, Circuit, Resource):
            # What code says is checked there.
            for row in model.objects.exclude(recipients=[])[:MOST_ROWS]:
                if not isinstance(row, Job) or row.override_of("recipients") is not None:
                    found += _untellable(name_of(row), row.recipients)
    except DatabaseError:
        return []  # not migrated yet
    return found


def _untellable(whose: str, recipients: Iterable[str]) -> Iterator[CheckMessage]:
    known = channels.known()
    for each in recipients:
        if not is_address(each) and each not in known:
            why = channels.unknown(each)
            yield Warning(
                f"{whose} is to tell {each!r}, which is no e-mail address. {why}.",
                hint="Add the channel to JOBS_CHANNELS, or correct the recipient.",
                id="scheduling.W021",
            )
