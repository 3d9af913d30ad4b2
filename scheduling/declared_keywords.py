"""What `@job` and `ScheduledJob` can say: each keyword, the field it decides, how it is read. Pure.

The export reads the same tables the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scheduling import declared_values as value
from scheduling.declared_values import Reader
from scheduling.policies import CatchUp, Overlap
from scheduling.zones import ClockChange

# What the columns hold
MOST_RETRIES = 32_767
MOST_FAILURES = 32_767
MOST_RUNS = 2_147_483_647
MOST_IN_A_MESSAGE = 1000

# Keyword -> field of Declaration, reader
Keywords = Mapping[str, tuple[str, Reader]]

COMMON: Keywords = {
    # when
    "schedule": ("schedule", value.as_schedule),
    "calendar": ("calendar", value.as_other),
    "clock_change": ("clock_change", value.one_of(ClockChange)),
    "starts_at": ("starts_at", value.as_moment),
    "ends_at": ("ends_at", value.as_moment),
    "runs": ("runs", value.whole(1, MOST_RUNS, or_none=True)),
    "first_run": ("first_run", value.as_first_run),
    "catch_up": ("catch_up", value.one_of(CatchUp)),
    "catch_up_window": ("catch_up_window", value.as_span),
    "overlap": ("overlap", value.one_of(Overlap)),
    "queue_limit": ("queue_limit", value.whole(1, MOST_RUNS, or_none=True)),
    "start_within": ("start_within", value.as_span),
    "should_run": ("should_run", value.as_hook),
    "ready": ("ready", value.as_hook),
    "status": ("status", value.as_hook),
    # how
    "description": ("description", value.as_text),
    "args": ("args", value.as_args),
    "kwargs": ("kwargs", value.as_kwargs),
    "scheduled_at": ("scheduled_at_argument", value.as_argument),
    "options": ("options", value.as_options),
    "queue": ("options", value.as_queue),
    "soft_limit": ("soft_limit", value.as_span),
    "hard_limit": ("hard_limit", value.as_span),
    "retries": ("retries", value.whole(0, MOST_RETRIES)),
    "retry_delay": ("retry_delay", value.as_some_span),
    "retry_delay_max": ("retry_delay_max", value.as_some_span),
    "retry_on": ("retry_on", value.as_failures),
    "memory_limit": ("memory_limit", value.as_bytes),
    "pause_after": ("pause_after", value.whole(0, MOST_FAILURES, or_none=True)),
    "circuit": ("circuit", value.as_other),
    "locks": ("locks", value.as_locks),
    "locks_until_next_fire": ("locks_until_next_fire", value.as_flag),
    "feed": ("feed", value.as_feed),
    "polite": ("polite", value.as_polite),
    # afterwards
    "notify_still_failing": ("notify_still_failing", value.as_flag),
    "recipients": ("recipients", value.as_recipients),
    "ping_url": ("ping_url", value.as_ping_url),
}
OF_FUNCTIONS: Keywords = {
    **COMMON,
    "idempotent": ("rerun_if_lost", value.as_flag),
    "keyed": ("keyed", value.as_flag),
    "batch": ("batch", value.whole(1, MOST_IN_A_MESSAGE)),
    "notify_on_success": ("notify_on_success", value.as_flag),
}
OF_COMMANDS: Keywords = {
    **COMMON,
    "internal": ("internal", value.as_flag),
    "rerun_if_lost": ("rerun_if_lost", value.as_flag),
    "default_notify_on_success": ("notify_on_success", value.as_flag),
}
# Rules that lead here, written at the follower: keyword -> how the other job's run ended;
# `after_all` waits for all that it names
FOLLOWING = {
    "after": "success",
    "after_failure": "failure",
    "after_any": "any",
    "after_all": "success",
}


def read(keywords: Keywords, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Give field -> value for what is given. Raises InvalidDeclaration."""
    fields: dict[str, Any] = {}
    for keyword, (field, reader) in keywords.items():
        if keyword in given:
            found = reader(given[keyword], name, keyword)
            # Two keywords decide the options: `queue` is one of them.
            fields[field] = {**fields.get(field, {}), **found} if field == "options" else found
    value.require_limits(fields.get("soft_limit"), fields.get("hard_limit"), name)
    value.require_life(fields.get("starts_at"), fields.get("ends_at"), name)
    value.require_first_within_life(
        fields.get("first_run", ""), fields.get("starts_at"), fields.get("ends_at"), name
    )
    return fields
