"""The addresses of the web process."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.generic import RedirectView

from config.env import beside
from scheduling.views.health import healthz
from scheduling.views.metrics import metrics


@staff_member_required
def flower(request: HttpRequest) -> HttpResponse:
    """Lead to Flower; also the way back after a log-in that Flower asked for."""
    return redirect(beside(settings.FLOWER_URL, request.get_host().rsplit(":", 1)[0].strip("[]")))


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("flower/", flower, name="flower"),
    path("healthz", healthz, name="healthz"),
    path("metrics", metrics, name="metrics"),
]
