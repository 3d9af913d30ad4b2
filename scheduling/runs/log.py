"""One log line per change of state, written here only."""

from __future__ import annotations

import logging

from scheduling.models import Run, State
from scheduling.signals import fire_skipped, run_ended, run_started

logger = logging.getLogger("scheduling.runs")

WARNED = {"late", "lost", "poison", "hard_limit"}


def changed(run: Run, event: str) -> None:
    """Log that `run` was queued, started, ended, skipped ... and tell the team's receivers."""
    level = logging.WARNING if run.reason in WARNED else logging.INFO
    logger.log(
        level,
        "Run %s of %s%s: %s%s",
        run.pk,
        run.name,
        f"[{run.key}]" if run.key else "",
        event,
        f" ({run.reason})" if run.reason else "",
        extra={"event": f"run.{event}", "job": run.name, "run": str(run.pk)},
    )
    if run.state == State.RUNNING:
        run_started.send(Run, run=run)
    elif run.state == State.SKIPPED:
        fire_skipped.send(Run, run=run)
    elif run.state in (State.SUCCEEDED, State.FAILED):
        run_ended.send(Run, run=run)


def changed_by(run: Run, event: str, by: str) -> None:
    logger.info(
        "Run %s of %s: %s by %s",
        run.pk,
        run.name,
        event,
        by,
        extra={"event": f"run.{event}", "job": run.name, "run": str(run.pk)},
    )


def circuit(name: str, event: str, by: str, why: str) -> None:
    told = ": ".join(filter(None, (by, why)))
    logger.warning("Circuit %s %s: %s", name, event, told, extra={"event": f"circuit.{event}"})


def pausing(scope: str, event: str, by: str, why: str) -> None:
    logger.info("%s %s by %s: %s", scope, event, by, why, extra={"event": f"scope.{event}"})
