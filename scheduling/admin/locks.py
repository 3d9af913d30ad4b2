"""The page of locks: who holds what, who waits in line, and breaking one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling import clock, runs
from scheduling.admin import display
from scheduling.admin.base import ModelAdmin, ReadOnly, page_context
from scheduling.admin.fields import ReasonField
from scheduling.errors import UnknownLock
from scheduling.models import Run, Seat

MOST_LOCKS = 200
MOST_WAITERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRow:
    """One lock, ready for the template."""

    key: str
    seats: str
    holders: list[dict[str, Any]]
    waiters: list[dict[str, Any]]
    more_waiters: int
    break_url: str


class BreakForm(forms.Form):
    reason = ReasonField(help_text="Stays with the run, and in the history of the admin")


def may_break(request: HttpRequest) -> bool:
    return request.user.has_perm("scheduling.break_lock")


def rows_of(held: Iterable[runs.HeldLock], request: HttpRequest) -> list[LockRow]:
    """Give one row for each lock that is held; those that somebody waits for come first."""
    by_key = {key: list(seats) for key, seats in groupby(held, key=lambda lock: lock.key)}
    capacities = runs.capacities(by_key)
    rows = [_row(key, seats, capacities[key], request) for key, seats in by_key.items()]
    return sorted(rows, key=lambda row: not row.waiters)


def _row(key: str, seats: Sequence[runs.HeldLock], capacity: int, request: HttpRequest) -> LockRow:
    now = clock.now()
    line = seats[0].waiters
    url = reverse("admin:scheduling_seat_break", query={"key": key})
    return LockRow(
        key=key,
        seats="" if capacity == 1 else f"{len(seats)} of {capacity} seats",
        holders=[
            {
                "who": _who(seat.run, seat.holder, request),
                "host": seat.host,
                "since": display.moment(seat.since, now),
                "held_until": display.moment(seat.held_until, now) if seat.held_until else "",
                "token": seat.token,
            }
            for seat in seats
        ],
        waiters=[
            {
                "who": _who(each.run, each.holder, request),
                "since": display.moment(each.since, now),
            }
            for each in line[:MOST_WAITERS]
        ],
        more_waiters=max(0, len(line) - MOST_WAITERS),
        break_url=url if may_break(request) else "",
    )


def _who(run: Run | None, holder: str, request: HttpRequest) -> SafeString:
    if run is None:
        return format_html('{} <span class="bk-subtle">outside of runs</span>', holder)
    name = f"{run.name}[{run.key}]" if run.key else run.name
    if request.user.has_perm("scheduling.view_run"):
        return display.link(display.run_url(run), name)
    return format_html("{}", name)


@admin.register(Seat)
class LockAdmin(ReadOnly, ModelAdmin[Seat]):
    """A list of what is held now, in place of rows of the table, most of which are free."""

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"scheduling_seat_{name}")

        return [own("", self.list_view, "changelist"), own("break/", self.break_view, "break")]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = rows_of(runs.locks_held(clock.now()), request)
        context = page_context(
            self.admin_site,
            request,
            Seat,
            title="Locks",
            rows=rows[:MOST_LOCKS],
            more=max(0, len(rows) - MOST_LOCKS),
        )
        return TemplateResponse(request, "scheduling/locks.html", context)

    def break_view(self, request: HttpRequest) -> HttpResponse:
        """Ask why a lock is to be broken, then break it."""
        if not may_break(request):
            raise PermissionDenied
        key = request.GET.get("key", "").replace("\0", "")  # PostgreSQL fails at it
        may_look = self.has_view_permission(request)
        back = reverse("admin:scheduling_seat_changelist" if may_look else "admin:index")
        held = runs.locks_held(clock.now(), key=key)
        if not held:
            self.message_user(request, f"Nobody holds the lock {key!r} now", messages.WARNING)
            return HttpResponseRedirect(back)
        form = BreakForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            self._break(request, key, form.cleaned_data["reason"])
            return HttpResponseRedirect(back)
        context = page_context(
            self.admin_site,
            request,
            Seat,
            title=f"Break the lock {key}",
            row=rows_of(held, request)[0],
            form=form,
            back=back,
        )
        return TemplateResponse(request, "scheduling/break_lock.html", context)

    def _break(self, request: HttpRequest, key: str, reason: str) -> None:
        by, now = request.user.get_username(), clock.now()
        try:
            broken = runs.break_lock(key, by=by, reason=reason, now=now)
        except UnknownLock as error:
            self.message_user(request, str(error), messages.WARNING)
            return
        seat = Seat.objects.filter(key=key).order_by("number")[:1]
        LogEntry.objects.log_actions(
            request.user.pk or 0, seat, CHANGE, f"Lock {key} broken: {reason}", single_object=True
        )
        self.message_user(
            request,
            f"The lock {key!r} is broken; it was taken from {broken} of its holders",
            messages.SUCCESS,
        )
