"""The only writer of runs, cursors, seats and pauses.

Every arrow of the state table is one function here; each takes `now` and settles races by a
conditional UPDATE or a constraint. Whoever moves a run or a cursor holds its target's lock.
"""

from __future__ import annotations

from scheduling.runs.attempts import Started, renew, start, stop_requested, wait_for_seat
from scheduling.runs.claim import claim, metered
from scheduling.runs.ends import Result, decline, finish, hand_back, lose, refuse
from scheduling.runs.foreign import record_foreign
from scheduling.runs.operate import cancel, installation, pause, resume, trigger
from scheduling.runs.recover import Recovered, recover
from scheduling.runs.seats import seat_keys
from scheduling.runs.settle import Claim, ClaimedFire, fire_listeners
from scheduling.runs.targets import (
    add_target,
    adopt,
    lock_targets,
    reschedule,
    reschedule_target,
    retire,
    retire_target,
    revive,
    revive_target,
)

__all__ = [
    "Claim",
    "ClaimedFire",
    "Recovered",
    "Result",
    "Started",
    "add_target",
    "adopt",
    "cancel",
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
    "record_foreign",
    "recover",
    "refuse",
    "renew",
    "reschedule",
    "reschedule_target",
    "resume",
    "retire",
    "retire_target",
    "revive",
    "revive_target",
    "seat_keys",
    "start",
    "stop_requested",
    "trigger",
    "wait_for_seat",
]
