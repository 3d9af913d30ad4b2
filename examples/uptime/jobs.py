"""The jobs of the example. `endpoints.save_endpoint` makes targets of the first two, the source
`inventory` those of `check_inventory`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from examples.uptime import checks
from examples.uptime import inventory as listed
from examples.uptime.conf import conf
from examples.uptime.models import Endpoint
from scheduling import (
    Cooldowns,
    Feed,
    Found,
    Named,
    Outcome,
    Polite,
    clock,
    current_run,
    job,
    source,
)
from scheduling.sources import Listing, Page, Unread


# Two more attempts before anybody is told: a dropped packet, or a server in the middle of a
# restart, is no outage. That holds for this installation's own start as well.
@job(
    keyed=True,
    idempotent=True,
    retries=2,
    retry_delay=timedelta(seconds=5),
    hard_limit=timedelta(minutes=2),
    recipients=conf.recipients(),
    throws=(checks.CheckFailed,),  # expected: Celery's log needs no traceback of it
)
def check_endpoint() -> Outcome:
    """Check one endpoint by all its probes; good when all of them are."""
    run = current_run()
    endpoint = Endpoint.objects.filter(name=run.key).first()
    if endpoint is None:
        return Outcome.MISSING
    check = checks.look(endpoint)
    changed = checks.record(endpoint, check, run_id=run.id, now=clock.now())
    if not check.ok:
        raise checks.CheckFailed(check.message)
    return Outcome.CHANGED if changed else Outcome.UNCHANGED


@job(keyed=True, idempotent=True, after_any="check_endpoint")
def reliability() -> Outcome:
    """Compute the share of good checks of the endpoint that was checked."""
    endpoint = Endpoint.objects.filter(name=current_run().key).first()
    if endpoint is None:
        return Outcome.MISSING
    before = endpoint.reliability
    after = checks.compute_reliability(endpoint)
    return Outcome.UNCHANGED if after == before else Outcome.CHANGED


@job("cron 15 3 * * *", idempotent=True)
def forget_measurements() -> None:
    """Delete the measurements that are too old to be counted."""
    checks.forget(now=clock.now())


# --- endpoints by the thousand, from a file


@source(jobs=["check_inventory"], full="every 1d" if conf.ENDPOINTS else None)
def inventory(listing: Listing) -> Iterator[Named | Page | Unread]:
    """Name the endpoints of the file UPTIME_ENDPOINTS."""
    yield from listed.enumerate_file(listing)


# Picked as there are free slots, whoever has waited longest first, and not before what was found
# asks for it: what changes is looked at again soon, what does not, seldom.
@job(
    conf.CADENCE,
    keyed=True,
    idempotent=True,
    feed=Feed(
        shares={"oldest_scheduled": 1},
        cooldowns=Cooldowns(
            absolute=None,
            in_flight=timedelta(hours=1),
            failed=None,
            missing=timedelta(days=1),
        ),
        max_queue_length=200,
    ),
    polite=Polite(by="label:host", at_once=2, per_second=2),
    retries=1,
    retry_delay=timedelta(seconds=30),
    hard_limit=timedelta(minutes=2),
    throws=(checks.CheckFailed,),
)
def check_inventory(address: str, kind: str, expects: str = "") -> Found:
    """Check one endpoint of the file; what was found decides how soon it is checked again."""
    run = current_run()
    endpoint = listed.endpoint_of(run.key)
    if endpoint is None:
        return Found(outcome=Outcome.MISSING)
    check = checks.ask([(kind, expects, address)])
    checks.record(endpoint, check, run_id=run.id, now=clock.now())
    checks.compute_reliability(endpoint)
    if not check.ok:
        raise checks.CheckFailed(check.message)
    return Found(fingerprint=check.fingerprint)


@job(idempotent=True, after="inventory.full")
def switch_off_unlisted() -> None:
    """Switch off the endpoints that the file no longer names."""
    listed.switch_off_unlisted()
