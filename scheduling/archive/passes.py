"""A pass over the history: what is old enough is written, then deleted, piece by piece.

A piece is one ArchiveFile, and its row says how far it is:

1. `written_at` empty: the file is being written. Nothing of it is deleted; a later pass removes
   what there is of the file, and sets `deleted_at`: it was given up.
2. `written_at` set: the file is whole, on the disk for good, and its sum is known. Its runs are
   deleted, by the ids that are read back from it; a later pass goes on with that.
3. `deleted_at` set: the table has them no longer.

Without an archive a piece has no file: it only says that history has left the table.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from scheduling import clock
from scheduling.archive import files
from scheduling.archive.deleting import Deleter, Watch
from scheduling.archive.horizon import SUFFIX, name_of
from scheduling.archive.lines import Entry, lines_of
from scheduling.archive.others import prune_others
from scheduling.archive.protected import Newest, needed
from scheduling.archive.rules import Candidate, Page, Rule, aged, surplus
from scheduling.conf import conf
from scheduling.errors import ArchiveError, LockBusy
from scheduling.locking import Hold, lock
from scheduling.models import ArchiveFile

logger = logging.getLogger(__name__)

LOCK = "beatkeeper archive"

GoOn = Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class Report:
    """What a pass has done. `token`: where the next one goes on; "": with the oldest.

    `is_through`: there was time for all that is old enough.
    """

    deleted: int = 0
    changed: int = 0
    left: int = 0
    files: list[ArchiveFile] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    token: str = ""
    is_through: bool = False

    @property
    def archived(self) -> int:
        return sum(file.runs for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a pass would take out of the table; `jobs`: name -> runs."""

    jobs: Counter[str]

    @property
    def runs(self) -> int:
        return self.jobs.total()


def plan(rule: Rule) -> Planned:
    """Look what would go, and change nothing."""
    jobs: Counter[str] = Counter()
    by_age: set[UUID] = set()
    for page in _free(aged(rule), Newest()):
        jobs.update(run.name for run in page.runs)
        if rule.keep is not None:
            by_age.update(run.id for run in page.runs)
    for page in _free(surplus(rule), None):
        jobs.update(run.name for run in page.runs if run.id not in by_age)
    return Planned(jobs=jobs)


def prune(
    rule: Rule,
    *,
    token: str = "",
    go_on: GoOn = lambda: True,
    watch: Watch = lambda rows, seconds: None,
) -> Report:
    """Take what may go out of the table: through files if there is an archive, else for good.

    Begins with what an earlier pass has left undone. It ends early, and at a place from which the
    next one can go on, when `go_on` says no. Raises ArchiveError, also if somebody else is at it.
    """
    report = Report(token=token)
    with _alone() as hold:

        def may_go_on() -> bool:
            return go_on() and not hold.is_lost()

        deleter = Deleter(go_on=may_go_on, watch=watch)
        _resume(report, deleter)
        _take_out(_free(aged(rule, token=token), Newest()), rule, report, deleter, may_go_on)
        # Its pages have no token: it is not begun before all that is old has been seen to.
        if report.is_through and may_go_on():
            _take_out(_free(surplus(rule), None), rule, report, deleter, may_go_on)
        if rule.before is not None and may_go_on():
            report.others = prune_others(rule.before, go_on=may_go_on)
    return report


@contextmanager
def _alone() -> Iterator[Hold]:
    try:
        with lock(LOCK, wait=timedelta(0)) as hold:
            yield hold
    except LockBusy as error:
        raise ArchiveError(
            "Somebody else takes runs out of the table now; `manage.py jobs locks` shows who"
        ) from error


def _free(pages: Iterable[Page], newest: Newest | None) -> Iterator[Page]:
    """Leave out what stays; pages may become empty."""
    for page in pages:
        stays = needed(page.runs)
        if newest is not None:
            stays |= newest.among(page.runs)
        yield Page(runs=[run for run in page.runs if run.id not in stays], token=page.token)


# --- pieces ---------------------------------------------------------------------------------------


def _resume(report: Report, deleter: Deleter) -> None:
    """Remove what was not written to its end, and delete on where a file was."""
    for row in ArchiveFile.objects.filter(written_at=None, deleted_at=None):
        # The row stays: its name is never given again, and who was writing it sees that it is over.
        _done_with(row)
        if conf.ARCHIVE:
            files.discard(row)
    for row in ArchiveFile.objects.filter(written_at__isnull=False, deleted_at=None):
        _delete(row, _entries_of(row), report, deleter)


def _entries_of(row: ArchiveFile) -> list[Entry]:
    """Read what is to be deleted back from the file. Raises ArchiveError."""
    if not row.name.endswith(SUFFIX):
        return []
    if not conf.ARCHIVE:
        raise ArchiveError(
            f"The file {row.name!r} of the archive is written, its runs are not all deleted yet, "
            "and JOBS_ARCHIVE is ''. Write the path of its folder there again; or `manage.py jobs "
            f"archive --forget {row.name}`, and what is left of its runs is deleted without it"
        )
    files.part_of(row).unlink(missing_ok=True)
    return files.verify(row)


def _take_out(
    pages: Iterator[Page], rule: Rule, report: Report, deleter: Deleter, go_on: GoOn
) -> None:
    if not conf.ARCHIVE:
        _delete_unwritten(pages, rule, report, deleter, go_on)
        return
    while go_on() and (row := _write(pages, rule, report, go_on)) is not None:
        report.files.append(row)
        _delete(row, files.verify(row), report, deleter)


def _write(pages: Iterator[Page], rule: Rule, report: Report, go_on: GoOn) -> ArchiveFile | None:
    """Fill one file; None if nothing is left to be written."""
    writer: files.Writer | None = None
    row: ArchiveFile | None = None
    try:
        for page in pages:
            if page.runs and (row is None or writer is None):
                row = _begin(rule, has_file=True)
                writer = files.Writer(row)
            if writer is not None:
                for line in lines_of(page.runs):
                    writer.add(line)
            report.token = page.token
            if not go_on() or (writer is not None and writer.is_full):
                break
        else:
            report.token, report.is_through = "", True
        if row is None or writer is None:
            return None
        sealed = writer.seal()
    except FileExistsError as error:
        raise ArchiveError(
            f"{error.filename2 or error.filename!r} is there already, and not ours; nothing is "
            "replaced or deleted. Use one folder for each database: name another in JOBS_ARCHIVE"
        ) from error
    except OSError as error:
        raise ArchiveError(
            f"The archive cannot be written: {error}; nothing of that file is deleted. Make room "
            f"in {conf.ARCHIVE!r}, or name another folder in JOBS_ARCHIVE"
        ) from error
    finally:
        if writer is not None:
            writer.close()
    return _record(row, sealed)


def _begin(rule: Rule, *, has_file: bool) -> ArchiveFile:
    number = files.next_number()
    name = name_of(rule.bound, number, has_file=has_file)
    written_at = None if has_file else rule.now
    return ArchiveFile.objects.create(
        name=name, before=rule.bound, began_at=rule.now, written_at=written_at
    )


def _record(row: ArchiveFile, sealed: files.Sealed) -> ArchiveFile:
    """From here on the file is what counts. Raises ArchiveError.

    Whoever took this process for dead is done with its row and has begun another file.
    """
    row.runs, row.size, row.sha256 = sealed.runs, sealed.size, sealed.sha256
    row.written_at = clock.now()
    mine = ArchiveFile.objects.filter(pk=row.pk, written_at=None, deleted_at=None)
    if not mine.update(runs=row.runs, size=row.size, sha256=row.sha256, written_at=row.written_at):
        files.discard(row)
        raise ArchiveError("Somebody else has gone on with the archive; this file was given up")
    files.part_of(row).unlink(missing_ok=True)
    logger.info("Wrote %s runs to %s", row.runs, row.name)
    return row


def _delete(row: ArchiveFile, entries: list[Entry], report: Report, deleter: Deleter) -> None:
    told = deleter.delete(entries)
    report.deleted += told.runs
    report.changed += told.changed
    report.left += told.left
    if not told.left:
        _done_with(row)
        logger.info("Deleted the runs of %s", row.name)


def _done_with(row: ArchiveFile) -> None:
    row.deleted_at = clock.now()
    ArchiveFile.objects.filter(pk=row.pk).update(deleted_at=row.deleted_at, runs=row.runs)


def _delete_unwritten(
    pages: Iterator[Page], rule: Rule, report: Report, deleter: Deleter, go_on: GoOn
) -> None:
    """Delete without an archive."""
    row: ArchiveFile | None = None
    for page in pages:
        if page.runs:
            # Before anything is deleted: whoever misses a row is told why.
            row = row or _begin(rule, has_file=False)
            told = deleter.delete([_entry(run) for run in page.runs])
            report.deleted += told.runs
            report.changed += told.changed
            report.left += told.left
            row.runs += told.runs
            if told.left and not go_on():
                break  # the next pass begins with this page
        report.token = page.token
        if not go_on():
            break
    else:
        report.token, report.is_through = "", True
    if row is not None:
        _done_with(row)


def _entry(run: Candidate) -> Entry:
    return Entry(id=run.id, state=run.state, attempt=run.attempt, ended_at=run.ended_at)
