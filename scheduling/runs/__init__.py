"""The only writer of runs, cursors, seats and pauses.

Every arrow of the state table is one function here; each takes `now` and settles races by a
conditional UPDATE or a constraint. Whoever moves a run or a cursor holds its target's lock.
"""

from __future__ import annotations

from scheduling.runs.attempts import (
    Started,
    hurry,
    postpone,
    renew,
    show_output,
    start,
    stop_requests,
    wait_for_seat,
)
from scheduling.runs.backfill import Backfill, backfill, backfill_fires, cancel_backfill
from scheduling.runs.batches import finish_batch, start_batch
from scheduling.runs.circuits import (
    NotAMember,
    asked_members,
    due_checks,
    note_ready,
    note_status,
    note_unready,
    open_circuit,
    take_check,
)
from scheduling.runs.circuits import fail as fail_circuit
from scheduling.runs.claim import claim, metered
from scheduling.runs.closing import close_circuit, leave_out, take_in
from scheduling.runs.coverage import sum_up as sum_up_coverage
from scheduling.runs.edits import (
    change_calendar,
    follow_edits,
    lock_for_edit,
    lock_targets,
    reschedule,
    retire,
    revive,
)
from scheduling.runs.elsewhere import Observed, observe
from scheduling.runs.ends import decline, finish, hand_back, lose, refuse
from scheduling.runs.feeding import due_jobs as jobs_to_feed
from scheduling.runs.feeding import feed
from scheduling.runs.foreign import (
    begin_foreign,
    end_foreign,
    lose_foreign,
    put_back_foreign,
    record_stock_fire,
)
from scheduling.runs.held import HeldLock, Waiter, break_lock, locks_held
from scheduling.runs.listing import (
    is_declared,
    note_declared,
    source_named,
    state_of,
    update_state,
)
from scheduling.runs.naming import Recorded, record
from scheduling.runs.operate import cancel, trigger
from scheduling.runs.pausing import pause, resume
from scheduling.runs.pool import thaw
from scheduling.runs.readiness import wait_until_ready
from scheduling.runs.recounting import Drift
from scheduling.runs.recounting import count_at_first as count_coverage_at_first
from scheduling.runs.recounting import recount as recount_coverage
from scheduling.runs.recover import Recovered, recover
from scheduling.runs.restored import Known, raise_tokens, refuse_fired, refuse_started
from scheduling.runs.result import Result
from scheduling.runs.rounds import Fed, Lengths
from scheduling.runs.scopes import Scope, installation, pause_of, scopes_of
from scheduling.runs.seats import capacities, seat_keys
from scheduling.runs.selecting import Pick, select
from scheduling.runs.settle import Claim, ClaimedFire, fire_listeners
from scheduling.runs.sources import finish_listing, list_now, standing_of
from scheduling.runs.targets import (
    add_target,
    adopt,
    reschedule_target,
    retire_target,
    revive_target,
)
from scheduling.runs.vanishing import set_trial

__all__ = [
    "Backfill",
    "Claim",
    "ClaimedFire",
    "Drift",
    "Fed",
    "HeldLock",
    "Known",
    "Lengths",
    "NotAMember",
    "Observed",
    "Pick",
    "Recorded",
    "Recovered",
    "Result",
    "Scope",
    "Started",
    "Waiter",
    "add_target",
    "adopt",
    "asked_members",
    "backfill",
    "backfill_fires",
    "begin_foreign",
    "break_lock",
    "cancel",
    "cancel_backfill",
    "capacities",
    "change_calendar",
    "claim",
    "close_circuit",
    "count_coverage_at_first",
    "decline",
    "due_checks",
    "end_foreign",
    "fail_circuit",
    "feed",
    "finish",
    "finish_batch",
    "finish_listing",
    "fire_listeners",
    "follow_edits",
    "hand_back",
    "hurry",
    "installation",
    "is_declared",
    "jobs_to_feed",
    "leave_out",
    "list_now",
    "lock_for_edit",
    "lock_targets",
    "locks_held",
    "lose",
    "lose_foreign",
    "metered",
    "note_declared",
    "note_ready",
    "note_status",
    "note_unready",
    "observe",
    "open_circuit",
    "pause",
    "pause_of",
    "postpone",
    "put_back_foreign",
    "raise_tokens",
    "record",
    "record_stock_fire",
    "recount_coverage",
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
    "select",
    "set_trial",
    "show_output",
    "source_named",
    "standing_of",
    "start",
    "start_batch",
    "state_of",
    "stop_requests",
    "sum_up_coverage",
    "take_check",
    "take_in",
    "thaw",
    "trigger",
    "update_state",
    "wait_for_seat",
    "wait_until_ready",
]
