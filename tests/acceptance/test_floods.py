"""External jobs that write more than anybody will read."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path

import pytest

from scheduling.conf import conf
from scheduling.models import Run
from tests.acceptance.rig import Process, Rig, add_command, trigger
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

MEBIBYTE = 1024 * 1024
GROWTH = 32 * MEBIBYTE
# What stands between head and tail comes on top.
MARK = 100
FIRST, LAST = "first words\n", "\nlast words\n"

# In megabytes and seconds; ten million empty lines are ten megabytes.
SHAPES = {"text": (256, 3.0), "empty": (10, 1.0), "line": (200, 2.0), "both": (64, 1.0)}


def memory_of(worker: Process) -> int:
    """Return what the worker and all below it hold, what several share counted once.

    What can be read again from a file is left out: programs, and the database of an embedded one.
    """
    total = 0
    for process in worker.tree():
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            total += sum(int(size) for size in re.findall(r"^Pss_Anon: +(\d+) kB", text, re.M))
    return total * 1024


def flood(worker: Process, shape: str, megabytes: int = 0, seconds: float = 0.0) -> tuple[Run, int]:
    """Run it to its end; give the run and the most memory that was held meanwhile."""
    name = f"{shape} of {megabytes} MB"
    kwargs = {"shape": shape, "megabytes": megabytes, "seconds": seconds}
    run = trigger(add_command(name, "flood", kwargs=kwargs))
    most = 0

    def has_ended() -> bool:
        nonlocal most
        most = max(most, memory_of(worker))
        return not Run.objects.open().exists()

    wait_for(has_ended, timeout=110, message=lambda: Run.objects.filter(pk=run.pk).values())
    run.refresh_from_db()
    return run, most


def check_floods(rig: Rig, shapes: dict[str, tuple[int, float]]) -> None:
    """Compare the most memory that is held under each flood with that under a quiet run."""
    rig.beat()
    worker = rig.worker(concurrency=1)
    quiet = max(flood(worker, shape)[1] for shape in ("text", "both"))
    for shape, (megabytes, seconds) in shapes.items():
        run, most = flood(worker, shape, megabytes, seconds)
        logger.info(
            "%s MB of %s took %s and %.1f MiB more",
            megabytes,
            shape,
            (run.ended_at or run.created_at) - (run.started_at or run.created_at),
            (most - quiet) / MEBIBYTE,
        )
        assert most - quiet <= GROWTH, shape
        assert (run.state, run.reason, run.exit_code) == ("failed", "exit_code", 3), run.error
        written = megabytes * MEBIBYTE + len(FIRST + LAST)
        assert run.output_bytes == written
        assert len(run.output.encode()) <= conf.OUTPUT_LIMIT + MARK
        assert run.output.startswith(FIRST)
        assert run.output.endswith(LAST)
        assert "bytes left out" in run.output
    assert worker.is_alive()


def test_floods_of_output_cost_no_memory_and_the_end_of_them_is_kept(rig: Rig) -> None:
    check_floods(rig, SHAPES)


def test_so_does_one_on_sqlite(embedded_rig: Rig) -> None:
    check_floods(embedded_rig, {"both": SHAPES["both"]})


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_gigabyte_costs_no_memory_either(either_rig: Rig) -> None:
    check_floods(either_rig, {"text": (1024, 20.0)})
