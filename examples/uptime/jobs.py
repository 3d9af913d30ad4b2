"""The jobs of the example. Their targets are made by `endpoints.save_endpoint`."""

from __future__ import annotations

from datetime import timedelta

from examples.uptime import checks
from examples.uptime.conf import conf
from examples.uptime.models import Endpoint
from scheduling import Outcome, clock, current_run, job


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
