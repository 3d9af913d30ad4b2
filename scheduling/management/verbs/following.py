"""history --follow: each change of a run as it is seen, and what the run writes meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from scheduling import clock
from scheduling.explanations import explanation
from scheduling.management.verbs.base import Say
from scheduling.management.verbs.growing import Growing
from scheduling.models import Run, State
from scheduling.models.run import OPEN_STATES

Stage = tuple[str, str, int]


class Follower:
    """Knows what has been said of each run: its stage, and how much of what it wrote.

    What had ended before the first look is told without its output: that is in the history.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._stages: dict[UUID, Stage] | None = None
        self._running: dict[UUID, tuple[int, Growing]] = {}

    def look(self, rows: Iterable[Run]) -> None:
        """Say what is new in these rows, the oldest first."""
        before = self._stages
        self._stages = {}
        for run in rows:
            stage = self._stages[run.pk] = (run.state, run.reason, run.attempt)
            self._say_rest(run, is_later=before is not None and run.pk not in before)
            if before is None or before.get(run.pk) != stage:
                self._say(explanation(run, clock.now()))
            if run.state == State.RUNNING:
                _, growing = self._running.setdefault(run.pk, (run.attempt, Growing()))
                self._say_written(run, run.attempt, growing, ended=False)

    def _say_rest(self, run: Run, *, is_later: bool) -> None:
        """Say the last lines of an attempt that has ended since, or all if it began since, too."""
        attempt, growing = self._running.get(run.pk, (run.attempt, None))
        if growing is not None and (run.state != State.RUNNING or run.attempt != attempt):
            del self._running[run.pk]
            self._say_written(run, attempt, growing, ended=True)
        elif growing is None and is_later and run.state not in OPEN_STATES:
            self._say_written(run, attempt, Growing(), ended=True)

    def _say_written(self, run: Run, attempt: int, growing: Growing, *, ended: bool) -> None:
        columns = ("output", "output_bytes")
        lines: list[str] = []
        if found := Run.objects.filter(pk=run.pk, attempt=attempt).values_list(*columns).first():
            lines = growing.lines(*found, ended=ended)
        elif found := run.earlier_attempts.filter(number=attempt).values_list(*columns).first():
            lines = growing.last_lines(*found)
        for line in lines:
            self._say(f"{run.key} | {line}" if run.key else line)
