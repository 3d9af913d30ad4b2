"""What a round of feeding knows, what became of it, and the number of runs that a job has left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F

from scheduling.models import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How many messages the broker holds for a job's queue and its express lane.

    0 for a broker that cannot be asked: then only our own open runs count. None: it should have
    answered and did not.
    """

    normal: int | None = 0
    express: int | None = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """What is wrong with a strategy, which is not asked again before then."""

    why: str
    until: datetime


@dataclass(slots=True)
class Fed:
    """What became of one round: runs let out of their lanes, and picks by strategy."""

    slots: int = 0
    released: int = 0
    picked: Counter[str] = field(default_factory=Counter)
    # Why there was nothing, or what is wrong
    why: str = ""
    # Whether another round may find more at once
    is_full: bool = False
    # The strategies that could not be asked, now or some rounds ago
    failed: dict[str, Failed] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "slots": self.slots,
            "released": self.released,
            "picked": dict(self.picked),
            "why": self.why,
            "failed": {
                name: {"why": each.why, "until": each.until.isoformat()}
                for name, each in self.failed.items()
            },
        }


def in_words(last_round: dict[str, Any]) -> str:
    """Tell a round from `Fed.as_json`; "-": there was none."""
    if not last_round:
        return "-"
    picked = [f"{number} {name}" for name, number in last_round.get("picked", {}).items()]
    released = last_round.get("released")
    parts = [f"{released} out of lanes"] if released else []
    return "; ".join([*parts, *picked, *filter(None, [last_round.get("why")])]) or "nothing"


def still_failed(last_round: dict[str, Any], *, now: datetime) -> dict[str, Failed]:
    """The strategies that failed in an earlier round and have their rest; from `Fed.as_json`."""
    known = {
        name: Failed(each["why"], datetime.fromisoformat(each["until"]))
        for name, each in last_round.get("failed", {}).items()
    }
    return {name: each for name, each in known.items() if each.until > now}


def spend(job: Job, slots: int) -> int:
    """Take up to `slots` of the job's number of runs, if it has one; give how many there were."""
    if job.runs_left is None:
        return slots
    locked = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
    count = min(slots, locked.runs_left or 0)
    Job.objects.filter(pk=job.pk).update(runs_left=F("runs_left") - count)
    return count


def give_back(job: Job, count: int) -> None:
    if count > 0:
        counted = Job.objects.filter(pk=job.pk, runs_left__isnull=False)
        counted.update(runs_left=F("runs_left") + count)
