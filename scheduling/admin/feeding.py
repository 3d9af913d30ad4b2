"""Feeding and politeness of a job: typed as JSON, told in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminExpandableTextareaWidget

from scheduling.admin.fields import StrictJsonField
from scheduling.errors import InvalidDeclaration
from scheduling.feeds import Feed, Polite
from scheduling.models import Job
from scheduling.spans import format_span
from workers import politeness

COOLDOWNS = {
    "absolute": "after a pick",
    "in_flight": "while no result has come",
    "failed": "after a failure",
    "missing": "once it was missing",
}


class Plain(Protocol):
    """A value that has a form in JSON."""

    def as_json(self) -> dict[str, Any]: ...

    @classmethod
    def read(cls, value: object) -> Plain: ...


class PlainField(StrictJsonField):
    """A value of `scheduling.feeds` as JSON, given back with all that was left out. Empty: None."""

    kind: type[Plain]
    told: Any

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"spellcheck": "false", "class": "bk-mono", "rows": 6}
        kwargs = {"required": False, "help_text": self.told, **kwargs}
        super().__init__(widget=UnfoldAdminExpandableTextareaWidget(attrs=attrs), **kwargs)

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None:
            return None
        try:
            return self.kind.read(found).as_json()
        except InvalidDeclaration as error:
            raise ValidationError(str(error), code="invalid") from error

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, forms.fields.InvalidJSONInput):
            return value
        return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)


class FeedField(PlainField):
    kind = Feed
    told = format_html(
        "Its targets are picked as there are free slots, not at fire times: <code>{}</code>, or "
        "<code>{}</code> for what is usual; empty: it is not fed",
        '{"shares": {"stalest": 1}, "max_queue_length": 100}',
        "{}",
    )


class PoliteField(PlainField):
    kind = Polite
    told = format_html(
        "How much of it may press on one host, or another key: <code>{}</code>; empty: no limit",
        '{"by": "host", "at_once": 2, "per_second": 1}',
    )


def in_words(job: Job) -> list[str]:
    """Sentences about how its targets are picked, and how politely they are worked."""
    told: list[str] = []
    try:
        if job.feed is not None:
            told += _feed_in_words(Feed.read(job.feed))
        if job.polite is not None:
            polite = Polite.read(job.polite)
            shared = f", shared by the group {polite.group}" if polite.group else ""
            by = polite.by.removeprefix("label:")
            kind = f"value of the label {by}" if by != polite.by else by
            told.append(f"Each {kind}: {politeness.in_words(polite)}{shared}")
    except InvalidDeclaration as error:
        told.append(f"It cannot be read how it is fed: {error}")
    return told


def _feed_in_words(feed: Feed) -> Iterator[str]:
    yield f"Fed: at most {feed.max_queue_length} runs are open at once"
    total = sum(feed.shares.values())
    if not total:
        yield "No targets are picked"
        return
    shares = ", ".join(
        f"{name} {weight / total:.0%}" for name, weight in feed.shares.items() if weight
    )
    yield f"Picked by {shares}"
    pauses = [
        f"{format_span(span)} {told}"
        for name, told in COOLDOWNS.items()
        if (span := getattr(feed.cooldowns, name)) is not None
    ]
    if pauses:
        yield f"A target is left alone for {', '.join(pauses)}"
    if feed.express is not None:
        yield (
            f"New ones go through the queue {feed.express.queue!r}, at most {feed.express.limit} "
            "at once"
        )
    if feed.sample is not None:
        yield f"Each pick looks at {feed.sample:.0%} of what may be picked"
