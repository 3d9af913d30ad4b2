"""The pages of circuits: jobs that are paused and resumed together."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from scheduling.admin import shared
from scheduling.admin.base import ModelAdmin
from scheduling.admin.pausing import Pauses
from scheduling.models import Circuit


@admin.register(Circuit)
class CircuitAdmin(shared.NamesItsUsers, Pauses[Circuit], ModelAdmin[Circuit]):
    change_form_template = "scheduling/shared_form.html"
    list_display = ("name", "description", "standing", "number_of_jobs")
    list_per_page = 50
    search_fields = ("name", "description")
    fields = ("name", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Circuit]:
        active = Count("jobs", filter=Q(jobs__retired_at=None))
        return super().get_queryset(request).annotate(used_by=active)

    def get_readonly_fields(self, request: HttpRequest, obj: Circuit | None = None) -> list[str]:
        # Jobs refer to it by name.
        return [] if obj is None else ["name"]

    @admin.display(description="state", ordering="paused_at")
    def standing(self, circuit: Circuit) -> SafeString:
        return shared.standing(circuit)

    @admin.display(description="jobs", ordering="used_by")
    def number_of_jobs(self, circuit: Any) -> int:
        return int(circuit.used_by)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        circuit = self.get_object(request, object_id)
        if circuit is not None and self.has_view_permission(request, circuit):
            page = shared.page_of(request, circuit) | {
                "users": shared.job_links(request, circuit.jobs.all()),
                "no_users": "No job belongs to it: choose it among a job's policies.",
            }
            extra_context = {**(extra_context or {}), "page": page}
        return super().change_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Circuit, form: Any, change: bool) -> None:
        # A pause that begins meanwhile is not this form's to end.
        obj.save(update_fields=["description"] if change else None)
