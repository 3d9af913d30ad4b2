"""The only writer of runs, cursors, seats and pauses.

Every arrow of the state table is one function here; each takes `now` and settles races by a
conditional UPDATE or a constraint. Whoever moves a run or a cursor holds its target's lock.
"""

from __future__ import annotations

from scheduling.runs.attempts import Started, renew, start, stop_requests, wait_for_seat
from scheduling.runs.backfill import Backfill, backfill, backfill_fires, cancel_backfill
from scheduling.runs.claim import claim, metered
from scheduling.runs.ends import Result, decline, finish, hand_back, lose, refuse
from scheduling.runs.foreign import record_foreign, record_stock_fire
from scheduling.runs.operate import cancel, trigger
from scheduling.runs.pausing import pause, resume
from scheduling.runs.recover import Recovered, recover
from scheduling.runs.restored import Known, raise_tokens, refuse_fired, refuse_started
from scheduling.runs.scopes import Scope, installation, pause_of, scopes_of
from scheduling.runs.seats import seat_keys
from scheduling.runs.settle import Claim, ClaimedFire, fire_listeners
from scheduling.runs.targets import (
    add_target,
    adopt,
    change_calendar,
    lock_targets,
    reschedule,
    reschedule_target,
    retire,
    retire_target,
    revive,
    revive_target,
)

__all__ = [
    "Backfill",
    "Claim",
    "ClaimedFire",
    "Known",
    "Recovered",
    "Result",
    "Scope",
    "Started",
    "add_target",
    "adopt",
    "backfill",
    "backfill_fires",
    "cancel",
    "cancel_backfill",
    "change_calendar",
    "claim",
    "decline",
    "finish",
    "fire_listeners",
    "hand_back",
    "installation",
    "lock_targets",
    "lose",
    "metered",
    "pause",
    "pause_of",
    "raise_tokens",
    "record_foreign",
    "record_stock_fire",
    "recover",
    "refuse",
    "refuse_fired",
    "refuse_started",
    "renew",
    "reschedule",
    "reschedule_target",
    "resume",
    "retire",
    "retire_target",
    "revive",
    "revive_target",
    "scopes_of",
    "seat_keys",
    "start",
    "stop_requests",
    "trigger",
    "wait_for_seat",
]
