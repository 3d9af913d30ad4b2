"""`@job` functions: importing `<app>/jobs.py` puts them into the registry."""

from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from scheduling.declarations.problem import Problem


def import_jobs() -> list[Problem]:
    """Import the `jobs` module of every app that has one; one that fails stops no other."""
    problems = []
    for app in apps.get_app_configs():
        if app.module is None or not module_has_submodule(app.module, "jobs"):
            continue
        try:
            import_module(f"{app.name}.jobs")
        except (Exception, SystemExit) as error:  # the team's code: it may raise anything
            problems.append(
                Problem(
                    text=f"{app.name}.jobs cannot be imported: {type(error).__name__}: {error}",
                    declared_in="function",
                )
            )
    return problems
