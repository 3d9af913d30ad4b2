"""Everything the code declares, collected."""

from __future__ import annotations

from celery import current_app
from celery.signals import import_modules
from django.test import override_settings

from scheduling import declarations
from scheduling.registry import registry


def test_functions_commands_and_settings_are_collected_in_the_order_of_their_names():
    entry = {"task": "mail.send", "schedule": 60}
    with override_settings(CELERY_BEAT_SCHEDULE={"mail": entry}):
        collected = declarations.collect()
    found = {name: each.declared_in for name, each in collected.declarations.items()}
    assert list(found) == sorted(found)
    assert (found["note"], found["scribble"], found["mail"]) == ("function", "command", "settings")
    assert collected.problems == []


def test_a_name_declared_in_two_places_is_told_and_the_first_stays():
    entry = {"task": "mail.send", "schedule": 60}
    with override_settings(CELERY_BEAT_SCHEDULE={"note": entry}):
        collected = declarations.collect()
    (problem,) = collected.problems
    assert "'note'" in str(problem)
    assert "function (tests.testapp.jobs.note)" in str(problem)
    assert "settings (mail.send)" in str(problem)
    assert collected.declarations["note"].declared_in == "function"


def test_jobs_modules_that_cannot_be_imported_are_told(tmp_path, monkeypatch):
    (tmp_path / "brokenapp").mkdir()
    (tmp_path / "brokenapp" / "__init__.py").touch()
    (tmp_path / "brokenapp" / "jobs.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    with override_settings(INSTALLED_APPS=["brokenapp", "tests.testapp"]):
        collected = declarations.collect()
    (problem,) = collected.problems
    assert "brokenapp.jobs cannot be imported" in str(problem)
    assert "note" in collected.declarations


def test_a_starting_worker_learns_the_hooks_of_commands():
    import_modules.send(sender=current_app)
    found = registry.get("scribble")
    assert found is not None
    assert found.command == "scribble"
