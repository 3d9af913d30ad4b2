"""`jobs simulate`: what is asked, what comes out, and the targets of a job as an inventory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

from scheduling.feeds import BUILT_IN, SHARES, Feed
from scheduling.management.verbs.simulated import change_period, things_of
from scheduling.models import Job, Outcome, State
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

QUICK = ("--resources", "20", "--days", "3", "--workers", "1", "--processes", "1")
ROW = (
    *("name", "workers", "seed", "days", "shares", "picks", "checks", "changed", "unchanged"),
    *("failed", "missing", "over_limit", "open", "waste", "known", "checked", "fresh"),
    *("utilisation", "oldest_never", "lag", "lag_hinted", "lag_unhinted", "first_check", "waited"),
    *("levels", "series"),
)
SAMPLE = (
    *("day", "known", "checked", "fresh", "stale", "never", "paused", "open", "checks", "changed"),
    *("unchanged", "failed", "missing", "lag_p50", "lag_p90", "lag_p99", "oldest_never"),
    *("utilisation", "waste"),
)


def simulated(*words: str) -> Any:
    told = jobs("simulate", *words, "--json")
    assert told.code == 0, told
    return told.document()


def refused(*words: str) -> str:
    told = jobs("simulate", *words, "--json")
    assert told.code == 2, told
    return str(told.document()["error"])


def names(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["name"], row["workers"]) for row in rows]


def test_simulate_gives_a_row_for_each_scenario_in_one_shape() -> None:
    (row,) = simulated(*QUICK)
    assert tuple(row) == ROW
    assert tuple(row["series"][0]) == SAMPLE
    assert list(row["lag"]) == ["count", "p50", "p90", "p99"]
    assert (row["name"], row["shares"], row["days"], row["seed"]) == ("mix", SHARES, 3, 1)
    assert row["known"] == 27
    assert row["checks"] > 0
    assert row["series"][-1]["day"] == 3
    assert simulated(*QUICK) == [row]


def test_all_strategies_are_compared_each_alone_beside_the_mix() -> None:
    rows = simulated(*QUICK, "--strategies", "all")
    assert names(rows) == [("mix", 1), *((name, 1) for name in BUILT_IN)]
    assert [list(row["picks"]) for row in rows[1:]] == [[name] for name in BUILT_IN]


def test_fleets_are_compared_by_their_size() -> None:
    rows = simulated(*QUICK, "--workers", "1,2", "--strategies", "mix,oldest_scheduled")
    assert names(rows) == [
        ("mix, 1 workers", 1),
        ("mix, 2 workers", 2),
        ("oldest_scheduled, 1 workers", 1),
        ("oldest_scheduled, 2 workers", 2),
    ]


def test_people_get_a_table_and_files_get_the_series(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("year.png", "year.csv", "things.jsonl")]
    png, series, things = map(str, files)
    told = jobs("simulate", *QUICK, "--plot", png, "--csv", series, "--write-inventory", things)
    assert told.code == 0, told
    assert "27 resources, 3 days, 1 workers" in told.stdout
    assert "STRATEGY" in told.stdout
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert files[1].read_text(encoding="utf-8").startswith("name,workers,day,known,")
    assert len(files[2].read_text(encoding="utf-8").splitlines()) == 27
    quick = QUICK[2:]
    assert simulated(*quick, "--inventory", things) == simulated(*QUICK)


def test_shares_cooldowns_and_the_queue_are_as_a_job_would_have_them() -> None:
    (row,) = simulated(
        *QUICK,
        *("--shares", "oldest_scheduled=3,without_hint=1", "--queue", "5"),
        *("--cooldowns", "absolute=1h,missing=,in_flight=2d"),
    )
    assert row["name"] == "oldest_scheduled 3, without_hint 1"
    assert row["shares"] == {"oldest_scheduled": 3.0, "without_hint": 1.0}
    assert max(each["open"] for each in row["series"]) <= 5
    (usual,) = simulated(*QUICK, "--shares", "oldest_scheduled=3,without_hint=1")
    assert row["checks"] > usual["checks"]


def test_a_schedule_alone_picks_what_is_due() -> None:
    (row,) = simulated(*QUICK, "--schedule", "adaptive 1h between 1h and 1h")
    assert (row["name"], row["shares"]) == ("adaptive 1h between 1h and 1h factor 2", {})
    # A look each hour; some are slow or gone.
    assert 24 * 3 * 10 < row["checks"] <= 24 * 3 * 27


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strategies", "newest"), "There is no strategy 'newest'"),
        (("--shares", "express=1"), "'express'"),
        (("--shares", "stalest=much"), "the weight 'much'"),
        (("--shares", "stalest"), "NAME=VALUE"),
        (("--cooldowns", "often=1h"), "'often'"),
        (("--schedule", "every 5m"), "no adaptive schedule"),
        (("--workers", "0"), "0 workers"),
        (("--workers", "two"), "'two' is not a number"),
        (("--queue", "0"), "--queue is 0"),
        (("--days", "0"), "The span is 0:00:00"),
        (("--failures", "2"), "'2' is not a share"),
        (("--run-time", "0"), "run_time is 0:00:00"),
        (("--shortest", "2d", "--longest", "1d"), "give the shorter first"),
        (("--plot", "year.gif"), "'year.gif'"),
        (("--inventory", "away.jsonl"), "'away.jsonl' cannot be read"),
        (("--inventory", "a", "--from-database", "b"), "Both --inventory and --from-database"),
        (("--inventory", "a", "--resources", "5"), "leave them out"),
        (("--from-database", "away"), "No job is named 'away'"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], said: str) -> None:
    Job.objects.all().delete()
    assert said in refused(*words)


# --- a job of ours --------------------------------------------------------------------------------


@pytest.fixture
def watched() -> Job:
    """A fed job: one target that changes daily, one that never did, one gone, one not known yet."""
    feed = Feed(shares={"oldest_scheduled": 1.0}, max_queue_length=7).as_json()
    job = make_job("watch", schedule="manual", feed=feed)
    for key, outcome in (("daily", Outcome.CHANGED), ("never", Outcome.UNCHANGED)):
        target = make_target(job, key, hint_at=NOW if key == "daily" else None)
        for day in range(8):
            ended = NOW + timedelta(days=day)
            make_run(target, state=State.SUCCEEDED, outcome=outcome, ended_at=ended)
    make_target(job, "gone", last_state=State.SUCCEEDED, last_outcome=Outcome.MISSING)
    make_target(job, "new")
    make_target(job, "retired", retired_at=NOW)
    return job


def test_the_results_of_targets_say_how_often_they_change(watched: Job) -> None:
    things = {thing.key: thing for thing in things_of(watched, seed=1)}
    assert set(things) == {"daily", "never", "gone", "new"}
    assert things["daily"].change_every < 86_400
    assert things["never"].change_every > 7 * 86_400
    assert (things["daily"].hinted, things["never"].hinted) == (True, False)
    assert (things["gone"].gone_at, things["new"].gone_at) == (0.0, inf)


@pytest.mark.parametrize(
    ("results", "changes", "over", "days"),
    [
        (0, 0, None, None),
        (1, 1, timedelta(0), None),
        (11, 5, timedelta(days=10), 1.44),
        (11, 0, timedelta(days=10), 21.5),
        (11, 11, timedelta(days=10), 0.32),
    ],
)
def test_a_change_period_is_reckoned_from_results(
    results: int, changes: int, over: timedelta | None, days: float | None
) -> None:
    period = change_period(results=results, changes=changes, over=over)
    assert period == (None if days is None else pytest.approx(days * 86_400, rel=0.02))


def test_a_job_is_simulated_as_it_is_fed(watched: Job, tmp_path: Path) -> None:
    path = tmp_path / "things.jsonl"
    words = ("--days", "3", "--processes", "1")
    (row,) = simulated(*words, "--from-database", "watch", "--write-inventory", str(path))
    assert (row["name"], row["shares"], row["known"]) == ("watch", {"oldest_scheduled": 1.0}, 4)
    assert [json.loads(line)["key"] for line in path.read_text("utf-8").splitlines()] == [
        *("daily", "never", "gone", "new")
    ]
    assert row["missing"] > 0


def test_a_job_that_nothing_picks_or_that_has_no_targets_is_refused() -> None:
    make_job("hourly", schedule="every 1h")
    make_job("empty", schedule="adaptive ladder")
    assert "'hourly' is neither fed nor adaptive" in refused("--from-database", "hourly")
    assert "'empty' has no targets" in refused("--from-database", "empty")
