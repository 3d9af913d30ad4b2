"""What people and the rest of Beatkeeper see of runs that have left the table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from scheduling import checks, clock, declarations, health, runs
from scheduling.archive import JOB as ARCHIVE
from scheduling.archive import daily, files, passes
from scheduling.archive.horizon import archived_before
from scheduling.archive.rules import aged
from scheduling.jobs import take_out_old_runs
from scheduling.limits import limits_of
from scheduling.models import ArchiveFile, Job, Run, State, Target
from scheduling.views.health import ASKED
from tests.factories import NOW
from tests.integration.answers import HOUR, MINUTE, adopted, claimed, one, told
from tests.integration.answers import ended as end
from tests.integration.cli import jobs
from tests.integration.old_runs import DAY, Killed, die, ended, files_in, left, prune

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keep_nothing")]

BEFORE = (NOW - 90 * DAY).isoformat()


# --- the command line -----------------------------------------------------------------------------


def test_archive_writes_deletes_and_tells_its_files(archive: Path) -> None:
    ended()
    document = jobs("archive", "--before", BEFORE, "--json").document()
    assert (document["archived"], document["deleted"], document["left"]) == (1, 1, 0)
    (file,) = document["files"]
    assert files_in(archive) == [file["name"]]
    row = ArchiveFile.objects.get()
    assert (file["runs"], file["size"], file["sha256"]) == (row.runs, row.size, row.sha256)


def test_archive_needs_a_folder_and_prune_does_not() -> None:
    ended()
    refused = jobs("archive", "--before", BEFORE, "--json")
    assert refused.code == 2
    assert "JOBS_ARCHIVE is ''" in refused.document()["error"]
    assert jobs("prune", "--before", BEFORE, "--json").document()["deleted"] == 1


@pytest.mark.parametrize("verb", ["archive", "prune"])
def test_a_dry_run_counts_by_job_and_changes_nothing(verb: str, archive: Path) -> None:
    run = ended()
    document = jobs(verb, "--before", BEFORE, "--dry-run", "--json").document()
    assert (document["dry_run"], document["runs"]) == (True, 1)
    assert document["jobs"] == {run.name: 1}
    assert left() == {run}
    assert files_in(archive) == []
    assert "1 runs would be archived" in jobs(verb, "--before", BEFORE, "--dry-run").stdout


def test_prune_keeps_as_many_as_it_is_told(settings: Any) -> None:
    settings.JOBS_RETENTION = None
    run = ended(ago=1 * DAY)
    for n in range(2, 5):
        ended(run.target, ago=n * DAY)
    document = jobs("prune", "--keep", "1", "--json").document()
    assert (document["keep"], document["deleted"]) == (1, 3)
    assert left() == {run}


def test_without_a_rule_what_an_earlier_pass_began_still_goes_and_is_told(
    archive: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended()
    with monkeypatch.context() as patch:
        patch.setattr(files, "verify", die)
        with pytest.raises(Killed):
            prune()
    settings.JOBS_RETENTION = None
    assert jobs("prune").stdout == "1 runs have left the table.\n"
    assert run not in left()
    assert jobs("prune").stdout.startswith("Nothing goes: JOBS_RETENTION is None")


def test_a_bound_in_the_future_is_refused() -> None:
    told = jobs("prune", "--before", (clock.now() + HOUR).isoformat(), "--json")
    assert told.code == 2
    assert "lies ahead" in told.document()["error"]


def test_files_are_verified_one_by_one_or_all(archive: Path) -> None:
    ended()
    prune()
    (name,) = files_in(archive)
    assert jobs("archive", "--verify", name).code == 0
    (archive / name).write_bytes(b"")
    assert jobs("archive", "--verify", str(archive / name)).code == 1
    stranger = "runs-2020-01-01-000001.jsonl.gz"
    (archive / stranger).touch()
    checked = jobs("archive", "--all", "--json")
    assert checked.code == 1
    assert [(each["name"], each["ok"]) for each in checked.document()] == [
        (name, False),
        (stranger, False),
    ]
    assert "is not recorded" in checked.document()[1]["error"]


def test_a_file_that_is_not_known_cannot_be_verified_or_forgotten(archive: Path) -> None:
    for option in ("--verify", "--forget"):
        assert jobs("archive", option, "x.jsonl.gz").code == 2


def test_looking_at_files_and_archiving_are_two_things(archive: Path) -> None:
    assert jobs("archive", "--all", "--dry-run").code == 2


# --- the job --------------------------------------------------------------------------------------


def test_beatkeeper_declares_its_own_job() -> None:
    declared = declarations.collect().declarations[ARCHIVE]
    assert str(declared.schedule) == "every 1d spread"
    assert declared.description == "Archive and delete runs that are older than JOBS_RETENTION."


def test_the_job_takes_out_old_runs_and_tells_what_it_did() -> None:
    old = clock.now() - 100 * DAY
    run = ended(ago=NOW - old)
    result = take_out_old_runs()
    told = result.value
    assert (told["deleted"], told["archived"], told["next"]) == (1, 0, "")
    assert told["through"]
    assert result.output == ""
    assert not Run.objects.filter(pk=run.pk).exists()


def test_a_pass_without_time_goes_on_where_the_last_one_broke_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended(ago=NOW - clock.now() + 100 * DAY)
    job = Job.objects.get(name=ARCHIVE)
    begun = []

    def note(rule: Any, *, token: str, go_on: Any) -> Any:
        begun.append(token)
        return prune()

    monkeypatch.setattr(daily, "prune", note)
    target = Target.objects.get(job=job)
    place = f"{NOW.isoformat()}/{job.pk}"
    ended(target, ago=-DAY, result={"next": place})
    daily.run(should_stop=lambda: False)
    assert begun == [place]


def test_a_pass_ends_when_its_run_is_asked_to_stop() -> None:
    run = ended(ago=NOW - clock.now() + 100 * DAY)
    daily.run(should_stop=lambda: True)
    assert left() >= {run}


def test_a_pass_works_for_more_than_an_hour_and_no_pool_refuses_it() -> None:
    job = Job.objects.get(name=ARCHIVE)
    assert (job.soft_limit, job.hard_limit) == (None, None)  # which the threads pool would refuse
    assert daily._seconds() == 108 * 60
    job.hard_limit = HOUR
    assert limits_of(job).soft == 54 * MINUTE
    job.save(update_fields=["hard_limit"])
    assert daily._seconds() == 27 * 60


def test_a_pass_says_that_it_did_not_come_through_and_warns_the_third_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.JOBS_KEEP_GOOD = 200  # so that all stay, and only time passes
    monkeypatch.setattr(passes, "aged", partial(aged, size=1))
    since = NOW - clock.now()
    for n in range(5):
        ended(ago=since + (200 - n) * DAY)
    target = Target.objects.get(job__name=ARCHIVE)
    told = []
    for day in range(4):
        result = daily.run(should_stop=partial(bool, day < 3))
        told.append(result.value)
        assert ("the next pass goes on there" in result.output) == (day < 3)
        ended(target, ago=since + (4 - day) * DAY, result=told[-1])
        (check,) = health.checks(NOW, ["archive"])
        assert check.ok == (day != 2), check.detail
    assert [each["through"] for each in told] == [False, False, False, True]
    assert [each["unfinished"] for each in told] == [1, 2, 3, 0]
    (warning,) = [each for each in caplog.messages if "no time for all that is old" in each]
    assert "for 3 passes in a row: give beatkeeper_archive a longer hard limit" in warning


def test_a_late_archive_takes_no_process_out_of_service() -> None:
    assert "archive" not in ASKED


# --- what is still known --------------------------------------------------------------------------


def history(*, hours: int) -> Job:
    """Make a job that fired every ten minutes, each fire with its good run."""
    job = adopted()
    for n in range(1, 6 * hours + 1):
        at = NOW + 10 * n * MINUTE
        end(claimed(at)[0], at)
    return Job.objects.get(pk=job.pk)


def test_from_when_on_the_history_is_whole_is_known_before_a_run_is_gone() -> None:
    assert archived_before() is None
    ended(ago=100 * DAY)
    prune()
    assert archived_before() == NOW - 90 * DAY


def test_a_fire_that_was_archived_is_told_as_that_and_is_no_problem(archive: Path) -> None:
    job = history(hours=2)
    later = NOW + 2 * DAY
    prune(later, before=NOW + HOUR)
    found = one(job, now=later, at=NOW + 20 * MINUTE)
    assert found.run is None
    assert not found.is_problem
    assert "has been archived or deleted" in found.explanation
    assert str(archive) in found.explanation


def test_what_is_missing_after_the_horizon_is_told_apart_from_what_was_archived() -> None:
    job = history(hours=48)
    later = NOW + 3 * DAY
    prune(later, before=NOW + HOUR)
    horizon = archived_before()
    assert horizon == NOW + HOUR
    Run.objects.filter(scheduled_at__gt=horizon - HOUR, scheduled_at__lte=horizon + HOUR).delete()
    account = told(job, now=later, after=NOW, until=NOW + DAY, limit=500)
    absent = [each for each in account.findings if each.run is None]
    lost, *archived = absent
    assert (lost.about, lost.fires, lost.is_problem) == (horizon, 7, True)
    assert [each.fires for each in archived] == [5]
    assert not any(each.is_problem for each in archived)


def test_nothing_fires_again_for_having_been_archived() -> None:
    job = history(hours=2)
    count = Run.objects.count()
    fires = runs.backfill_fires(
        job, after=NOW, until=NOW + 2 * HOUR, missing_only=True, now=NOW + 2 * HOUR
    )
    assert fires == []
    later = NOW + 2 * DAY
    prune(later, before=NOW + HOUR + MINUTE)
    assert Run.objects.count() == count - 6
    fires = runs.backfill_fires(job, after=NOW, until=NOW + 2 * HOUR, missing_only=True, now=later)
    assert fires == []
    assert {run.scheduled_at for run in claimed(NOW + 2 * HOUR + 10 * MINUTE)} == {
        NOW + 2 * HOUR + 10 * MINUTE
    }


# --- checks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("", []),
        ("archive", ["scheduling.E003"]),
        ("/nowhere/at/all", ["scheduling.W014"]),
    ],
)
def test_the_folder_of_the_archive_is_looked_at(place: str, found: list[str]) -> None:
    with override_settings(JOBS_ARCHIVE=place):
        assert [each.id for each in checks.check_settings(None)] == found


def test_a_folder_that_is_there_is_fine(archive: Path) -> None:
    assert checks.check_settings(None) == []


def test_a_good_run_is_still_the_last_that_a_screen_shows(settings: Any) -> None:
    settings.JOBS_KEEP_GOOD = 1
    run = ended()
    ended(run.target, ago=200 * DAY, state=State.FAILED)
    prune()
    assert left() == {run}
