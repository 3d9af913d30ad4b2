"""PostgreSQL that stops and comes back in the middle of runs."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.db import connection

from scheduling import runs
from scheduling.models import Run, State
from tests.acceptance.rig import Rig, add_command, add_job, every_second, now, trigger
from tests.services import Postgres
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"


@pytest.mark.parametrize(
    "seconds", [10, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
def test_every_process_and_every_run_survives_a_database_outage(
    rig: Rig, postgres: Postgres, seconds: int
) -> None:
    """The outage may be longer than a lease: nobody else could start anything meanwhile."""
    if postgres.external:
        pytest.skip("DATABASE_URL names a server that is not ours to stop")
    processes = [rig.beat("beat1"), rig.beat("beat2"), rig.worker(concurrency=5)]
    until = {name: str(rig.folder / name) for name in ("during", "after")}
    # Two end while nothing can be written down, two after it can again; two are external.
    held = [
        trigger(add_job(f"held {name}", task=HOLD, kwargs={"until": file}))
        for name, file in until.items()
    ]
    held += [
        trigger(add_command(f"lingering {name}", "linger", kwargs={"until": file}))
        for name, file in until.items()
    ]
    wait_for(lambda: len(rig.lines("start")) == 4, timeout=60, message="all four have begun")
    begin = now()
    until_at = begin + timedelta(seconds=seconds + 10)
    targets = [
        runs.adopt(
            add_job(f"job {n}", schedule="every 1s", ends_at=until_at, catch_up="all"), now=begin
        )
        for n in range(5)
    ]
    wait_for(lambda: len(rig.lines("end")) >= 10, timeout=30, message="the jobs run")
    connection.close()
    postgres.stop()
    gone = now()
    (rig.folder / "during").touch()
    wait_for(lambda: len(names(rig, "end")) == 2, timeout=10, message=lambda: names(rig, "end"))
    rig.wait_until(gone + timedelta(seconds=seconds))
    postgres.start()
    back = now()
    wait_for(
        lambda: Run.objects.filter(pk__in=[run.pk for run in held], state="succeeded").count() == 2,
        timeout=30,
        message=lambda: list(Run.objects.filter(job__schedule="manual").values()),
    )
    logger.info("Final states were written %s after it was back", now() - back)
    (rig.folder / "after").touch()
    rig.wait_for_ends(timeout=60)
    assert [process.name for process in processes if not process.is_alive()] == []
    for run in held:
        run.refresh_from_db()
        assert (run.state, run.attempt) == (State.SUCCEEDED, 1), run
    for target in targets:
        rig.check_fires(target, every_second(begin, until_at))
    rig.check_oracle()


def names(rig: Rig, event: str) -> set[str]:
    """Return which of the four have told of `event`."""
    return {line.job for line in rig.lines(event) if not line.job.startswith("job")}
