"""What a notification says: one line, a text, the same as HTML, and fields for programs.

The texts are templates, `workers/mail/message.txt` and `.html`: a project with files of that name
in its own template folders has its own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse

from scheduling.conf import conf
from scheduling.models import Event, Notification, Run, State
from scheduling.runs.telling import ALERTS
from workers.notifications.subject import Subject

logger = logging.getLogger(__name__)

OUTPUT_LINES = 20
OUTPUT_LETTERS = 2000  # some chats take no longer message
LONGEST_LINE = 300
TEMPLATE = "workers/mail/message"

Value = str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    event: Event
    title: str  # one line
    text: str
    html: str = ""
    fields: dict[str, Value]


def message_about(subject: Subject) -> Message:
    row = subject.row
    event = Event(row.event)
    key = f" [{one_line(subject.key)}]" if subject.key else ""
    title = f"{event.label}: {one_line(row.name)}{key}"
    fields = fields_of(subject)
    context = {
        "event": event,
        "title": title,
        "is_alert": event in ALERTS,
        "name": one_line(row.name),
        "key": one_line(subject.key),
        "facts": facts_of(subject),
        "error": fields["error"],
        "detail": printable(row.detail),
        "output": last_lines(subject.run),
        "url": fields["url"],
    }
    return Message(
        event=event,
        title=title,
        text=_rendered("txt", context) or _plain(context),
        html=_rendered("html", context),
        fields=fields,
    )


def _rendered(kind: str, context: dict[str, Any]) -> str:
    """Fill in a template; "" if that fails: an alert must not be lost for the want of a tag."""
    try:
        return render_to_string(f"{TEMPLATE}.{kind}", context).strip() + "\n"
    except Exception:
        logger.exception("Template %s.%s cannot be used", TEMPLATE, kind)
        return ""


def _plain(context: dict[str, Any]) -> str:
    lines = [context["title"], *context["facts"], context["error"], context["detail"]]
    return "\n".join(line for line in (*lines, context["url"]) if line) + "\n"


def facts_of(subject: Subject) -> list[str]:
    """What happened and when, a sentence each."""
    row, run, facts = subject.row, subject.run, []
    if run is not None:
        facts.append(f"Scheduled for {_stamp(run.scheduled_at)}, attempt {run.attempt}")
        if run.ended_at is not None:
            why = f": {run.get_reason_display()}" if run.reason else ""
            facts.append(f"{run.get_state_display().capitalize()} at {_stamp(run.ended_at)}{why}")
    if (since := failing_since(subject)) is not None:
        facts.append(f"Failing since {_stamp(since)}")
    if row.late_since is not None:
        facts.append(f"Late since {_stamp(row.late_since)}")
    return facts


def failing_since(subject: Subject) -> datetime | None:
    """Since when it was failing when this was to be told; None if it was not."""
    run, target = subject.run, subject.target
    if run is None or run.state != State.FAILED:
        return None
    since = target.failing_since if target is not None else None
    # It may have been mended and failed again since.
    is_of_this = since is not None and (run.ended_at is None or since <= run.ended_at)
    return since if is_of_this else None


def fields_of(subject: Subject) -> dict[str, Value]:
    """The body of a webhook: keys that stay, times in ISO 8601, None for what there is not."""
    row, run, circuit = subject.row, subject.run, subject.circuit
    return {
        "event": row.event,
        "job": None if row.circuit_id is not None else row.name,
        "circuit": circuit.name if circuit is not None else None,
        "key": subject.key or None,
        "run": str(run.pk) if run is not None else None,
        "attempt": run.attempt if run is not None else None,
        "state": run.state if run is not None else None,
        "reason": (run.reason or None) if run is not None else None,
        "scheduled_at": _iso(run.scheduled_at) if run is not None else None,
        "ended_at": _iso(run.ended_at) if run is not None else None,
        "failing_since": _iso(failing_since(subject)),
        "late_since": _iso(row.late_since),
        "error": last_line(run.error) if run is not None else None,
        "detail": printable(row.detail) or None,
        "url": link_to(subject) or None,
    }


def last_lines(run: Run | None) -> str:
    """The end of what a run wrote."""
    if run is None or not run.output.strip():
        return ""
    lines = run.output[-8 * OUTPUT_LETTERS :].rstrip().split("\n")[-OUTPUT_LINES:]
    return printable("\n".join(lines))[-OUTPUT_LETTERS:]


def last_line(text: str) -> str | None:
    line = text.strip().rpartition("\n")[2]
    return one_line(line)[:LONGEST_LINE] or None


def link_to(subject: Subject) -> str:
    """Give the address of its page; empty without JOBS_SITE_URL or without the admin."""
    what = subject.run or subject.job or subject.circuit
    if not conf.SITE_URL or what is None:
        return ""
    page = f"admin:scheduling_{what._meta.model_name}_change"
    try:
        return str(conf.SITE_URL).rstrip("/") + reverse(page, args=[what.pk])
    except NoReverseMatch:
        return ""


def trial_message(name: str, *, by: str) -> Message:
    """Something harmless to see whether a recipient is reached."""
    said = f"This is a test of {one_line(name)}, sent by {one_line(by)}. Nothing has happened."
    row = Notification(name="test", event=Event.FIXED, detail=said)
    return Message(
        event=Event.FIXED,
        title="Test message",
        text=f"{said}\n",
        fields=fields_of(Subject(row=row)) | {"event": "test", "job": None},
    )


def one_line(text: str) -> str:
    """A name cannot break out of its header or its line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def printable(text: str) -> str:
    """Leave out what a terminal or a chat would obey; lines and tabs stay."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
