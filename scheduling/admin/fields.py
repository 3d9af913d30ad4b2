"""Form fields for spans, schedules and lists of lines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminExpandableTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from scheduling import clock
from scheduling.errors import InvalidSchedule
from scheduling.schedules import parse, require_supported
from scheduling.spans import format_span, parse_span


class SpanField(forms.CharField):
    """A span of time as text: 90s, 5m, 1h30m. Empty: None."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault(
            "widget", UnfoldAdminTextInputWidget(attrs={"placeholder": "90s, 5m, 1h30m"})
        )
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, timedelta):
            return value
        text = super().to_python(value)
        if not text:
            return None
        try:
            return parse_span(text)
        except InvalidSchedule as error:
            raise ValidationError(str(error), code="invalid") from error

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, timedelta):
            return value
        try:
            return format_span(value)
        except InvalidSchedule:
            return f"{value.total_seconds():g}s"

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(initial != self.to_python(data))
        except ValidationError:
            return True


class ScheduleField(forms.CharField):
    """A schedule in its text form, given back in its canonical form."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault(
            "widget",
            UnfoldAdminExpandableTextareaWidget(
                attrs={"spellcheck": "false", "class": "bk-mono", "data-schedule-text": ""}
            ),
        )
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> str:
        text = super().to_python(value)
        if not text:
            return ""
        try:
            return str(require_supported(parse(" ".join(text.split()))))
        except InvalidSchedule as error:
            raise ValidationError(str(error), code="invalid") from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or "") != self.to_python(data))
        except ValidationError:
            return True


def refuse_if_over(text: str) -> None:
    """Raise ValidationError for a new schedule that has no fire time left."""
    schedule = parse(text)
    if schedule.is_anchored and schedule.next(clock.now()) is None:
        raise ValidationError(
            f"Schedule {text!r} has no fire time after now; choose a later one, or 'manual'",
            code="over",
        )


class LinesField(forms.CharField):
    """A list of texts, one to a line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminExpandableTextareaWidget())
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return [
            line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()
        ]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class EmailLinesField(LinesField):
    def clean(self, value: Any) -> Any:
        addresses = super().clean(value)
        for address in addresses:
            forms.EmailField().clean(address)
        return addresses
