"""What is asked for when a one-off run is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling.declared_keywords import MOST_RETRIES
from scheduling.errors import InvalidRequest
from scheduling.runs.stored_json import as_text, storable
from scheduling.zones import require_aware

LANES = range(1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run of a job's target, asked for once.

    `kwargs` come on top of the job's and the target's. `priority`: its lane, 1 first; None: the
    normal one, after all lanes. `due_at`: not before then; None: at once. `retries`: its own number
    of them; None: the job's. `id`: the caller's; a run that has it is given as it is.
    """

    job: str
    key: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    due_at: datetime | None = None
    retries: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: UUID | None = None

    def __post_init__(self) -> None:
        """Raises InvalidRequest, NaiveTime."""
        if self.priority is not None and self.priority not in LANES:
            raise InvalidRequest(
                f"The priority of a run of {self.job!r} is {self.priority!r}; "
                f"give {LANES[0]} to {LANES[-1]}, or None for the normal lane"
            )
        if self.retries is not None and not 0 <= self.retries <= MOST_RETRIES:
            raise InvalidRequest(
                f"The retries of a run of {self.job!r} are {self.retries!r}; "
                f"give 0 to {MOST_RETRIES}, or None for the job's number"
            )
        if self.due_at is not None:
            require_aware(self.due_at)
        for name in ("kwargs", "metadata"):
            if not isinstance(getattr(self, name), Mapping):
                raise InvalidRequest(
                    f"The {name} of a run of {self.job!r} are {getattr(self, name)!r}; give a "
                    "mapping of names to values"
                )
        if as_text(storable(self.kwargs)) != as_text(self.kwargs):
            raise InvalidRequest(
                f"The kwargs of a run of {self.job!r} have a NUL or half a character, which no "
                "database keeps; take it out"
            )
        as_text(self.metadata)
