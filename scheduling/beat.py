"""The beat: `CELERY_BEAT_SCHEDULER = "scheduling.beat:Scheduler"`.

Any number of beats tick side by side; nobody leads. Each tick

1. samples the clock and says that this beat is alive,
2. makes sure that the database is not an older backup; takes a checkpoint now and then,
3. takes up edits that were made in bulk, and moves targets that follow one of their job,
4. claims due targets batch by batch, publishing each batch after its commit,
5. feeds the jobs whose targets are picked,
6. mends what somebody left behind,
7. publishes what else is ready, and again what was lost,
8. sleeps until the next fire or a ring of the doorbell, at most JOBS_TICK.

Errors of the database or the broker end a tick, never the beat.

In shadow mode (JOBS_SHADOW) a tick only follows the rows and moves the cursors with the clock.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import beat
from django.db import Error, close_old_connections, connection

from scheduling import (
    broker,
    catch_up,
    clock,
    evidence,
    feeding,
    lateness,
    outbox,
    redis,
    runs,
    signals,
    sync,
)
from scheduling.conf import conf
from scheduling.declarations import periodic
from scheduling.models import Notification, Process, ProcessKind, Run, Target
from scheduling.snapshots import Keeper

logger = logging.getLogger(__name__)

BACK_OFF_MAX = 5.0
ALIVE_EVERY = timedelta(seconds=3)
TELL_EVERY = timedelta(seconds=2)
DELIVER_TASK = "workers.notifications.deliver"
TELL_EVERY_MAX = timedelta(minutes=5)
SOLAR_ROWS_EVERY = timedelta(seconds=10)
# Claiming, or publishing, in one tick: then the rest of the tick's work has its turn.
LONGEST_IN_A_ROW = timedelta(seconds=1)


class Scheduler(beat.Scheduler):
    """Celery's scheduler with `tick` replaced; what to run is read from the database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.name = f"beat@{socket.gethostname()}/{os.getpid()}"
        self._begun = False
        self._failures = 0
        self._is_busy = False
        self._is_asked_to_stop = False
        self._epoch = ""
        self._settled_epoch: str | None = None
        self._rows_seen_at: datetime | None = None
        self._solar_rows_at: datetime | None = None
        # Leases are judged only after everybody has had the chance to renew them.
        self._reap_from: datetime | None = None
        self._alive_at: datetime | None = None
        self._told_at: datetime | None = None
        self._tell_every = TELL_EVERY
        self._sampled_at: datetime | None = None
        self._comparison = evidence.Comparison()
        self._lateness = lateness.Watch()
        self._checkpoints = Keeper()
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing to load: a tick reads what is due, whatever the number of schedules."""

    def should_sync(self) -> bool:
        return False

    def sync(self) -> None:
        """Nothing to write back: cursors are written as they move."""

    @property
    def info(self) -> str:
        return "    . db -> every fire time is claimed in the database"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do one pass and wait for the next; give 0, as the waiting is done here."""
        self._is_busy = True
        try:
            close_old_connections()
            wait = self._pass()
            self._failures = 0
        except Exception as error:
            if self._is_asked_to_stop:
                # Celery's SystemExit broke off a statement, and the connection complains of it.
                raise SystemExit from error
            self._failures += 1
            if isinstance(error, Error):
                self._sampled_at = None
                self._checkpoints.doubt()
            # The exponent has a bound: an outage of hours must not end in an overflow.
            wait = min(0.1 * 2 ** min(self._failures, 10), BACK_OFF_MAX)
            logger.exception("Tick failed, next try in %.1f s", wait)
            connection.close()
            time.sleep(wait)
            return 0.0
        finally:
            self._is_busy = False
        redis.wait_for_ring(wait)
        return 0.0

    def close(self) -> None:
        """Say goodbye; whoever cannot (kill -9) is noticed by its silence.

        Celery calls this in its signal handler first, in the middle of anything: a statement then
        holds the connection's lock, and waiting for it would never end. Celery calls it again
        once its SystemExit has unwound the stack.
        """
        self._is_asked_to_stop = True
        if self._is_busy:
            return
        self._is_busy = True
        try:
            Process.objects.filter(name=self.name).delete()
            signals.beat_stopped.send(type(self), name=self.name)
        except Exception:
            logger.exception("This beat could not take itself off the list")
        finally:
            connection.close()

    def _pass(self) -> float:
        """One tick; give the seconds to wait for the next."""
        now = clock.sample()
        if conf.SHADOW:
            return self._watch(now)
        if self._sampled_at is None or now - self._sampled_at > conf.lease / 2:
            # The database was away, or we were (a machine that slept): who could not renew
            # meanwhile has a lease's time to do so.
            self._reap_from = now + conf.lease
        self._sampled_at = now
        redis.say_beat_is_well()
        # Before anything that claims, and a sync may settle what is owed.
        self._checkpoints.compare(now=now)
        if not self._begun:
            self._begin(now)
        self._say_alive(now)
        self._rows_seen_at = periodic.changed_since(self._rows_seen_at, now=now)
        self._ask_for_epoch(now)
        self._claim()
        is_moving = self._follow_edits()
        feeding.feed_all(self.app, now=now, until=clock.now() + LONGEST_IN_A_ROW)
        self._comparison.compare(self.app, now=now)
        reap = self._reap_from is not None and now >= self._reap_from
        runs.recover(now=now, reap=reap)
        runs.sum_up_coverage()
        if reap:
            evidence.bury_silent_workers(self.app, silent_since=now - conf.lease, now=now)
        self._publish_ready()
        self._lateness.look(now)
        self._deliver_notifications(now)
        self._checkpoints.keep(now=clock.now())
        return 0.0 if is_moving else self._seconds_to_next()

    def _begin(self, now: datetime) -> None:
        sync.sync_at_beat_start(now=now)
        self._rows_seen_at = periodic.resume_after_stock(now=now)
        runs.count_coverage_at_first()
        signals.beat_started.send(type(self), name=self.name)
        self._begun = True
        logger.info("%s is ready", self.name)

    def _watch(self, now: datetime) -> float:
        """One tick in shadow mode: start, publish, mend and deliver nothing."""
        if not self._begun:
            logger.warning(
                "%s is in SHADOW MODE: it fires nothing, whatever is due. Compare with "
                "`manage.py jobs shadow`; remove JOBS_SHADOW to let it fire",
                self.name,
            )
            signals.beat_started.send(type(self), name=self.name)
            self._begun = True
        self._say_alive(now)
        self._rows_seen_at = periodic.changed_since(self._rows_seen_at, now=now)
        if self._solar_rows_at is None or now - self._solar_rows_at >= SOLAR_ROWS_EVERY:
            periodic.follow_solar_rows(now=now)
            self._solar_rows_at = now
        until = clock.now() + LONGEST_IN_A_ROW
        while (now := clock.now()) < until:
            # Gives no runs in this mode; what it gave would not be published.
            if runs.claim(now=now, limit=conf.CLAIM_BATCH).targets < conf.CLAIM_BATCH:
                break
        self._follow_edits()
        return conf.TICK.total_seconds()

    def _say_alive(self, now: datetime) -> None:
        if self._alive_at is not None and now - self._alive_at < ALIVE_EVERY:
            return
        skew = (datetime.now(UTC) - now).total_seconds() + conf.CLOCK
        detail: dict[str, Any] = {"clock_skew": round(skew, 3), **self._checkpoints.detail()}
        if conf.SHADOW:
            detail["shadow"] = True
        Process.objects.update_or_create(
            name=self.name,
            defaults={"seen_at": now, "detail": detail},
            create_defaults={
                "kind": ProcessKind.BEAT,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started_at": now,
                "seen_at": now,
                "detail": detail,
            },
        )
        # Beats that fell silent have nothing to hand over.
        Process.objects.filter(kind=ProcessKind.BEAT, seen_at__lt=now - 5 * conf.lease).delete()
        self._alive_at = now

    def _ask_for_epoch(self, now: datetime) -> None:
        epoch = broker.epoch(self.app)
        if epoch is None:
            return
        self._epoch = epoch
        if epoch != self._settled_epoch and not evidence.forget_other_epochs(epoch, now=now):
            # Nothing is left under another one, so the question need not be asked again.
            self._settled_epoch = epoch

    def _claim(self) -> None:
        until = clock.now() + LONGEST_IN_A_ROW
        # Anew for each batch: others leave its runs alone for two seconds from then.
        while (now := clock.now()) < until:
            claim = runs.claim(
                now=now,
                limit=conf.CLAIM_BATCH,
                catch_up_budget=self._catch_up_budget(now),
            )
            outbox.publish(self.app, claim.runs, epoch=self._epoch, now=now)
            lateness.note_missed(claim.skips, now=now)
            if claim.targets < conf.CLAIM_BATCH:
                return

    def _follow_edits(self) -> bool:
        """Whether there is more to do."""
        until = clock.now() + LONGEST_IN_A_ROW
        while (now := clock.now()) < until:
            if not runs.follow_edits(now=now):
                return False
        return True

    def _catch_up_budget(self, now: datetime) -> int:
        """Ask the shared bucket only if somebody has missed fires to catch up one by one."""
        behind = Target.objects.due(now).filter(runs.metered(now))
        return catch_up.take(conf.CATCH_UP_BURST, now=now) if behind.exists() else 0

    def _publish_ready(self) -> None:
        until = clock.now() + LONGEST_IN_A_ROW
        while (now := clock.now()) < until:
            if not outbox.publish_ready(self.app, epoch=self._epoch, now=now):
                return

    def _deliver_notifications(self, now: datetime) -> None:
        """Ask a worker to deliver what waits; the rows are the truth, the message a hint."""
        if not Notification.objects.filter(deliver_at__lte=now).exists():
            self._told_at, self._tell_every = None, TELL_EVERY
            return
        if self._told_at is not None:
            if now - self._told_at < self._tell_every:
                return
            # Less and less often, as our messages may well wait behind long jobs.
            self._tell_every = min(2 * self._tell_every, TELL_EVERY_MAX)
        self._told_at = now
        try:
            with self.app.producer_or_acquire() as producer:
                broker.connect(producer.connection)
                self.app.send_task(DELIVER_TASK, producer=producer, retry=False)
        except broker.errors(self.app) as error:
            logger.debug("Notifications wait for the broker: %s", error)

    def _seconds_to_next(self) -> float:
        """Until the next fire or the next entry of the outbox, at most JOBS_TICK."""
        now = clock.now()
        longest = conf.TICK
        moments = [
            Target.objects.filter(next_fire_at__isnull=False)
            .order_by("next_fire_at")
            .values_list("next_fire_at", flat=True)
            .first(),
            Run.objects.to_publish(now + longest).values_list("publish_at", flat=True).first(),
        ]
        waits = [(moment - now).total_seconds() for moment in moments if moment is not None]
        return min([longest.total_seconds(), *(max(wait, 0.0) for wait in waits)])
