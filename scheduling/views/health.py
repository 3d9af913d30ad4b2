"""`/healthz`: for probes and load balancers. No log-in, so no details."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from scheduling import health

# One job's unreadable schedule or unfit pool is for its owner, a stranger's garbage and a history
# that grows for the operator: no reason to take a process out of service.
OWNERS = ("schedules", "limits", "dead_letters", "archive")
ASKED = tuple(name for name in health.NAMES if name not in OWNERS)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if all is well, else 503, with a line for each check: its name and ok or failed.

    Unreadable schedules, limits, dead letters and a late archive count in `jobs health`, here when
    asked for. `?check=NAME` (repeatable) asks for some checks: a container of the web process is
    alive if `?check=database` is, whatever becomes of beats.
    """
    names = request.GET.getlist("check")
    unknown = sorted(set(names) - set(health.NAMES))
    if unknown:
        return plain(f"no such check; there are {', '.join(health.NAMES)}\n", 400)
    found = health.checks(health.check_now(), names or ASKED)
    lines = "".join(f"{check.name} {'ok' if check.ok else 'failed'}\n" for check in found)
    return plain(lines, 200 if all(check.ok for check in found) else 503)


def plain(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
