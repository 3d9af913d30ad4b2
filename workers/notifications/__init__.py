"""Telling people: each notification is a row, written with what it tells; here it is delivered.

A row is claimed by moving its `deliver_at` into the future, so that of several processes one
sends it; one that dies in between leaves it to be sent again then: at most one message too many.
"""

from __future__ import annotations

from workers.notifications.delivery import (
    deliver,
    deliver_due,
    deliver_left,
    deliver_of,
    deliver_one,
)

__all__ = ["deliver", "deliver_due", "deliver_left", "deliver_of", "deliver_one"]
