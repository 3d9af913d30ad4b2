"""Sending pings to monitors, in the form that healthchecks.io made common.

A row is claimed as those of `notifications` are. Each worker's main process sends what is due, so
that no job waits for a monitor, and no beat or broker is needed. The address is a secret: of what
goes wrong with it only the kind of error is kept.
"""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q

from scheduling import clock
from scheduling.conf import conf
from scheduling.models import Ping, PingSignal, Run
from scheduling.ping_urls import ping_address, require_ping_url

logger = logging.getLogger(__name__)

# How long a ping waits to be sent, at most, while all is well.
EVERY = timedelta(seconds=2)
BATCH = 100
ATTEMPTS = 10
FIRST_WAIT = timedelta(seconds=15)
# Who is told so late that a run has begun would measure its time wrongly.
STALE_START = timedelta(minutes=10)
TIMEOUT = 5.0
OUTPUT_BYTES = 10_000
ENDS = (PingSignal.SUCCESS, PingSignal.FAIL)


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Nobody is led elsewhere: the address is for the monitor alone."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def deliver() -> int:
    return deliver_due(clock.now())


def deliver_due(now: datetime) -> int:
    """Send the pings that are due, oldest first; give how many arrived.

    After a failure the other pings of that job wait: one dead monitor holds up no other for long.
    """
    start_waits = Ping.objects.filter(
        run=OuterRef("run"), signal=PingSignal.START, deliver_at__isnull=False
    )
    due = (
        Ping.objects.filter(deliver_at__lte=now)
        # The start of a run is told before its end.
        .filter(Q(signal=PingSignal.START) | ~Exists(start_waits))
        .select_related("run__job")
        .defer("run__output", "run__error")
        .order_by("created_at", "pk")
    )
    sent = 0
    dead: set[int | None] = set()
    for row in due[:BATCH]:
        if row.run.job_id in dead:
            continue
        arrived = deliver_one(row, now=now)
        sent += bool(arrived)
        if arrived is False:
            dead.add(row.run.job_id)
    return sent


def deliver_one(row: Ping, *, now: datetime) -> bool | None:
    """Send one ping; True if it arrived, False if not, None if there was nothing to send."""
    claimed = Ping.objects.filter(
        pk=row.pk, deliver_at=row.deliver_at, attempts=row.attempts
    ).update(deliver_at=now + FIRST_WAIT * 2**row.attempts, attempts=row.attempts + 1)
    if not claimed:
        return None
    mine = Ping.objects.filter(pk=row.pk)
    if dropped := _why_dropped(row, now):
        mine.update(deliver_at=None, error=dropped)
        return None
    error = send(row)
    if not error:
        mine.update(deliver_at=None, error="")
        return True
    is_last = row.attempts + 1 >= ATTEMPTS
    mine.update(error=error, **({"deliver_at": None} if is_last else {}))
    logger.warning(
        "Ping of run %s, %s, not sent%s: %s",
        row.run_id,
        row.signal,
        "; given up" if is_last else "",
        error,
    )
    return False


def _why_dropped(row: Ping, now: datetime) -> str:
    if row.run.job is None or not row.run.job.ping_url:
        return "The job has no ping URL any more"
    if row.signal == PingSignal.START:
        return "Too old to be of use" if now - row.created_at > STALE_START else ""
    # Only what arrives late can arrive in the wrong order.
    newer = Run.objects.filter(
        job=row.run.job_id,
        created_at__gte=row.run.created_at,
        pings__signal__in=ENDS,
        pings__created_at__gt=row.created_at,
    )
    return "A newer run has ended meanwhile" if row.attempts and newer.exists() else ""


def send(row: Ping) -> str:
    """Send it; give "" or what went wrong, without the address."""
    job = row.run.job
    assert job is not None
    body = None
    if conf.PING_OUTPUT and row.signal in ENDS:
        # Read here: most pings carry none.
        output = Run.objects.values_list("output", flat=True).get(pk=row.run_id)
        body = output.encode(errors="replace")[-OUTPUT_BYTES:]
    try:
        address = ping_address(require_ping_url(job.ping_url), row.signal, run_id=str(row.run_id))
        request = urllib.request.Request(address, data=body, headers=HEADERS)
        with _opener.open(request, timeout=TIMEOUT):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason
        return type(reason).__name__ if isinstance(reason, BaseException) else "URLError"
    except Exception as error:
        # Whatever it is, its words may contain the address.
        return type(error).__name__


HEADERS = {"User-Agent": "Beatkeeper", "Content-Type": "text/plain; charset=utf-8"}
_opener = urllib.request.build_opener(NoRedirects)
