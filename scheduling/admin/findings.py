"""What looking at a target has found, and whether it may be picked, for its list and its page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling.admin import display
from scheduling.models import Run, Target
from scheduling.outcome import Outcome

TONES = {Outcome.CHANGED: "blue", Outcome.UNCHANGED: "green", Outcome.MISSING: "amber"}


def pool_badge(target: Target, now: datetime) -> SafeString | None:
    """Whether it may be picked, or from when; None: it is not picked at all."""
    if target.eligible_since is not None:
        return display.badge("in the pool", "green", "A strategy may pick it now")
    if target.eligible_at is None:
        return None
    return format_html("{} {}", display.badge("cools"), display.moment(target.eligible_at, now))


def in_short(target: Target) -> SafeString:
    """The newest outcome, and how often in a row it was not found."""
    outcome = outcome_badge(target)
    if not target.misses:
        return outcome
    times = "time" if target.misses == 1 else "times"
    shown = outcome if target.last_outcome else ""
    note = f"not found {target.misses} {times} in a row"
    return format_html('{} <span class="bk-subtle">{}</span>', shown, note)


def outcome_badge(target: Target) -> SafeString:
    if not target.last_outcome:
        return display.NOTHING
    return display.badge(target.last_outcome, TONES.get(Outcome(target.last_outcome), "grey"))


def of(target: Target, now: datetime) -> list[tuple[str, Any]]:
    """(name, value) of all that is known; nothing for a plain target that says nothing."""
    if not target.key and target.observed_at is None:
        return []
    picked = Run.objects.filter(target=target).exclude(strategy="").order_by("-scheduled_at")
    strategy = picked.values_list("strategy", flat=True).first()
    known = {
        "Outcome": outcome_badge(target) if target.last_outcome else None,
        "Found": moment(target.found_at, now) or display.badge("never", "amber"),
        "Found each time since": moment(target.ok_since, now),
        "Newest result": moment(target.observed_at, now),
        "Equal results in a row": target.streak or None,
        "Not found, in a row": target.misses or None,
        "Fingerprint": display.as_code(target.fingerprint) if target.fingerprint else None,
        "Changed last, as listed": moment(target.hint_at, now),
        "Stale by": span(target.staleness),
        "Interval": span(target.interval),
        "Level": target.level if target.observed_at is not None else None,
        "Virtual position": target.position,
        "Named first by": target.source,
        "May be picked": pool_badge(target, now),
        "In the pool since": moment(target.eligible_since, now),
        "Picked last by": display.as_code(strategy) if strategy else None,
    }
    return [(name, value) for name, value in known.items() if value is not None]


def moment(value: datetime | None, now: datetime) -> SafeString | None:
    return None if value is None else display.moment(value, now)


def span(value: timedelta | None) -> str | None:
    return None if value is None else display.duration(value)
