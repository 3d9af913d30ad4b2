"""A value for every field of a declaration, none of them its default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from scheduling import ClockChange, Overlap
from scheduling.feeds import Cooldowns, Express, Feed, Polite
from scheduling.policies import CatchUp
from scheduling.registry import FollowUpRule
from scheduling.schedules import parse

HOUR = timedelta(hours=1)
LATER = datetime(2027, 1, 1, 3, 0, 0, 500, tzinfo=UTC)
NASTY = 'say "no"\n# or \\n \u202e backwards'

# Field of Declaration -> a value that is not its default; every field but those of identity.
VALUES: dict[str, Any] = {
    "schedule": parse("cron 0 3 * * * tz Europe/Berlin"),
    "description": 'Close "all" the books',
    "args": ("monday", {"deep": [1, None, True, 0.5]}),
    "kwargs": {"text": NASTY, "n": 1},
    "options": {"queue": "slow", "priority": 3, "headers": {"team": "red"}},
    "scheduled_at_argument": "as_of",
    "calendar": "holidays",
    "clock_change": ClockChange.TWICE,
    "starts_at": LATER,
    "ends_at": LATER + HOUR,
    "runs": 3,
    "first_run": LATER.isoformat(),
    "catch_up": CatchUp.ALL,
    "catch_up_window": timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=5),
    "overlap": Overlap.TERMINATE,
    "queue_limit": 7,
    "start_within": timedelta(minutes=90),
    "soft_limit": timedelta(seconds=10),
    "hard_limit": timedelta(seconds=20),
    "retries": 4,
    "retry_delay": timedelta(seconds=90),
    "retry_delay_max": timedelta(hours=7),
    "retry_on": ("requests.exceptions.Timeout", "OSError", 75),
    "rerun_if_lost": True,
    "memory_limit": 3 * 2**29,
    "pause_after": 5,
    "batch": 50,
    "circuit": "payments",
    "locks": ("db", "disk"),
    "locks_until_next_fire": True,
    "feed": Feed(
        shares={"stalest": 2.0, "shop.strategies:Dearest": 0.0},
        cooldowns=Cooldowns(absolute=timedelta(hours=1), failed=None),
        max_queue_length=50,
        express=Express(queue="express", limit=5),
        sample=0.25,
    ),
    "polite": Polite(by="label:team", at_once=2, per_second=0.5, group="crawlers"),
    "notify_on_success": True,
    "notify_still_failing": True,
    "recipients": ("ann@example.org",),
    "ping_url": "https://hc.example.org/secret",
    "after": (
        FollowUpRule(follower="feed", on="success"),
        FollowUpRule(follower="milk", on="failure"),
        FollowUpRule(follower="shear", on="any"),
        FollowUpRule(follower="wash", on="success", join=True),
        FollowUpRule(follower="weigh", on="success", join=True),
    ),
    "keyed": True,
    "internal": True,
}
# Not said by a keyword of its own: what it is, hooks, and rules written at the other end.
HOOKS = {"should_run", "ready", "status"}
APART = {"name", "kind", "declared_in", "task", "command", "follow_ups", *HOOKS}
