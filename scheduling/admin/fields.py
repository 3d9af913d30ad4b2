"""Form fields for spans, schedules, JSON and lists of lines."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminExpandableTextareaWidget,
    UnfoldAdminPasswordToggleWidget,
    UnfoldAdminTextInputWidget,
)

from scheduling import channels, clock
from scheduling.declared_values import LONGEST_KEY, as_bytes, as_failures
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.recipients import require_recipient
from scheduling.schedules import parse, require_supported
from scheduling.sizes import format_size
from scheduling.spans import format_span, parse_span

LONGEST_REASON = 300
# As an escape in JSON; behind an odd backslash it would be plain text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def printable(text: str) -> None:
    """Raise ValidationError for what would forge a line of a log, or turn a page's text around."""
    odd = next((letter for letter in text if not letter.isprintable()), None)
    if odd is not None:
        raise ValidationError(
            f"{text[:40]!r} contains {odd!r}, which cannot be seen; leave it out", code="printable"
        )


class StrictJsonField(forms.JSONField):
    """JSON as every database can store it and every page can show it.

    Python's parser also reads NaN, half surrogate pairs and the character NUL, and gives up on deep
    nesting and huge numbers with errors of its own.
    """

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str):
            return super().to_python(value)
        try:
            found = json.loads(value) if value.strip() else None
            text = json.dumps(found, ensure_ascii=False, allow_nan=False)
            text.encode()
        except RecursionError as error:
            raise ValidationError("Not valid JSON: nested too deep", code="invalid") from error
        except ValueError as error:
            raise ValidationError(f"Not valid JSON: {error}", code="invalid") from error
        if NUL.search(text):
            raise ValidationError("The character NUL cannot be stored", code="invalid")
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Show again what was typed, whatever it is."""
        if self.disabled:
            return initial
        return None if data is None else forms.fields.InvalidJSONInput(data)


class ReadField(forms.CharField):
    """A value that is typed as text: however it is written, the same value is no change."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(initial != self.to_python(data))
        except ValidationError:
            return True


class SpanField(ReadField):
    """A span of time as text: 90s, 5m, 1h30m. Empty: None."""

    def __init__(self, *, at_least: timedelta = timedelta(0), **kwargs: Any) -> None:
        self.at_least = at_least
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
            span = parse_span(text)
        except InvalidSchedule as error:
            raise ValidationError(str(error), code="invalid") from error
        if span < self.at_least:
            raise ValidationError(
                f"{text} is too short; the least is {format_span(self.at_least)}", code="short"
            )
        return span

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, timedelta):
            return value
        try:
            return format_span(value)
        except InvalidSchedule:
            return f"{value.total_seconds():g}s"


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


class SizeField(ReadField):
    """An amount of memory as text: 512M, 2G. Empty: None."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminTextInputWidget(attrs={"placeholder": "512M, 2G"}))
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        try:
            return as_bytes(text, "", "")
        except InvalidDeclaration as error:
            raise ValidationError(
                f"{text[:40]!r} is no limit; write a number with K, M or G, such as 512M, "
                "at least 16M",
                code="invalid",
            ) from error

    def prepare_value(self, value: Any) -> Any:
        return format_size(value) if isinstance(value, int) else value


class ReasonField(forms.CharField):
    """Why somebody does something. It becomes one line, as it stands in logs, mails and banners."""

    def __init__(self, *, max_length: int = LONGEST_REASON, **kwargs: Any) -> None:
        attrs = {"rows": 2, "maxlength": max_length}
        kwargs.setdefault("widget", UnfoldAdminExpandableTextareaWidget(attrs=attrs))
        super().__init__(max_length=max_length, validators=[printable], **kwargs)

    def to_python(self, value: Any) -> Any:
        return " ".join((super().to_python(value) or "").split())


class LinesField(forms.CharField):
    """A list of texts, one to a line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminExpandableTextareaWidget())
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        lines = (super().to_python(value) or "").replace("\r\n", "\n").split("\n")
        return [line.strip() for line in lines if line.strip()]

    def clean(self, value: Any) -> Any:
        lines = super().clean(value)
        for line in lines:
            self.check_line(line)
        return lines

    def check_line(self, line: str) -> None:
        printable(line)
        if len(line) > LONGEST_KEY:
            raise ValidationError(
                f"{line[:40]!r}... has {len(line)} characters; {LONGEST_KEY} at most", code="long"
            )

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class FailuresField(LinesField):
    """Names of exceptions, and exit codes as numbers, one to a line."""

    def to_python(self, value: Any) -> Any:
        return [
            int(line) if isinstance(line, str) and re.fullmatch("[0-9]{1,3}", line) else line
            for line in super().to_python(value)
        ]

    def check_line(self, line: Any) -> None:
        try:
            as_failures([line], "", "")
        except InvalidDeclaration as error:
            raise ValidationError(
                f"{line!r:.80} is neither the name of an exception, such as "
                "requests.ConnectionError, nor an exit code from 1 to 255",
                code="invalid",
            ) from error


class SecretField(forms.CharField):
    """A text that stands behind dots; whoever may change it can have it shown."""

    def __init__(self, **kwargs: Any) -> None:
        # "off" is not obeyed: a browser would fill in the password of this site.
        widget = UnfoldAdminPasswordToggleWidget(
            attrs={"autocomplete": "new-password"}, render_value=True
        )
        super().__init__(widget=widget, **kwargs)


class RecipientsField(LinesField):
    """E-mail addresses and names of channels, one to a line."""

    def check_line(self, line: str) -> None:
        super().check_line(line)
        try:
            require_recipient(line)
        except InvalidDeclaration as error:
            raise ValidationError(str(error), code="invalid") from error
        if "@" not in line and line not in channels.known():
            known = ", ".join(channels.known()) or "none"
            raise ValidationError(
                f"There is no channel {line[:80]!r}; JOBS_CHANNELS has: {known}", code="unknown"
            )
