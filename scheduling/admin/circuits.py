"""The pages of circuits: jobs that stop together, are paused and resumed together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from scheduling import clock, runs
from scheduling.admin import circuit_page, display, shared
from scheduling.admin.base import ModelAdmin, ModelForm, WithPage, page_context
from scheduling.admin.fields import RecipientsField
from scheduling.admin.muting import Mutes
from scheduling.admin.pausing import ID, may_pause
from scheduling.models import Circuit, Job
from scheduling.runs.circuits import told


class CircuitForm(ModelForm[Circuit]):
    recipients = RecipientsField(
        label="Recipients",
        required=False,
        help_text="Told of it and of its jobs, besides the recipients of these, one a line",
    )

    class Meta:
        model = Circuit
        fields = ("name", "description", "recipients")


@admin.register(Circuit)
class CircuitAdmin(shared.UsedByJobs, Mutes[Circuit], WithPage, ModelAdmin[Circuit]):
    change_form_template = "scheduling/circuit_form.html"
    list_display = ("name", "description", "standing", "number_of_jobs")
    list_per_page = 50
    search_fields = ("name", "description")
    form = CircuitForm
    fields = ("name", "description", "recipients")

    @admin.display(description="state", ordering="paused_at")
    def standing(self, circuit: Circuit) -> SafeString:
        paused = shared.standing(circuit)
        if not circuit.is_open:
            return paused
        is_open = display.badge("open", "red", told(circuit))
        return is_open if paused == display.NOTHING else format_html("{} {}", is_open, paused)

    def page_of(self, request: HttpRequest, obj: Circuit) -> dict[str, Any]:
        return shared.page_of(request, obj) | {"circuit": circuit_page.of(obj, request)}

    def save_model(self, request: HttpRequest, obj: Circuit, form: Any, change: bool) -> None:
        # A pause that begins meanwhile is not this form's to end.
        obj.save(update_fields=["description", "recipients"] if change else None)

    # --- open and close, leave out and take in ----------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def own(verb: str, view: Callable[..., HttpResponse]) -> URLPattern:
            name = f"scheduling_circuit_{verb.replace('-', '_')}"
            return path(f"<int:pk>/{verb}/", self.admin_site.admin_view(view), name=name)

        return [
            own("open", partial(self.switch_view, verb="open")),
            own("close", partial(self.switch_view, verb="close")),
            own("leave-out", require_POST(partial(self.member_view, change=runs.leave_out))),
            own("take-in", require_POST(partial(self.member_view, change=runs.take_in))),
            *super().get_urls(),
        ]

    def switch_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """Ask why it is to be opened or closed, then do it."""
        circuit = self._circuit(request, pk)
        back = self._page_of(circuit)
        form = circuit_page.ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            context = page_context(
                self.admin_site,
                request,
                Circuit,
                title=f"{verb.capitalize()} the circuit {circuit}",
                form=form,
                media=form.media,
                subjects=[circuit],
                verb=verb,
                action=request.path,
                next=back,
            )
            return TemplateResponse(request, "scheduling/ask.html", context)
        change = runs.open_circuit if verb == "open" else runs.close_circuit
        reason, by = form.cleaned_data["reason"], request.user.get_username()
        done = "opened" if verb == "open" else "closed"
        if change(circuit, by=by, reason=reason, now=clock.now()):
            self.log_change(request, circuit, f"{done.capitalize()}: {reason}")
            self.message_user(request, f"The circuit {circuit} is {done}", messages.SUCCESS)
        else:
            self.message_user(
                request, f"The circuit {circuit} was {done} already", messages.WARNING
            )
        return HttpResponseRedirect(back)

    def member_view(
        self, request: HttpRequest, pk: int, change: Callable[..., bool]
    ) -> HttpResponse:
        circuit = self._circuit(request, pk)
        wanted = request.POST.get("job", "")
        if not ID.fullmatch(wanted):
            raise Http404
        job = get_object_or_404(Job, pk=int(wanted), circuit=circuit)
        if change(circuit, job, by=request.user.get_username(), now=clock.now()):
            done = "is left out of" if job.left_out else "belongs again to"
            self.log_change(request, circuit, f"{job.name} {done} it")
            self.message_user(request, f"{job.name} {done} the circuit", messages.SUCCESS)
        return HttpResponseRedirect(self._page_of(circuit))

    def _circuit(self, request: HttpRequest, pk: int) -> Circuit:
        circuit = get_object_or_404(Circuit, pk=pk)
        if not self.has_view_permission(request, circuit) or not may_pause(request):
            raise PermissionDenied
        return circuit

    def _page_of(self, circuit: Circuit) -> str:
        return reverse("admin:scheduling_circuit_change", args=(circuit.pk,))
