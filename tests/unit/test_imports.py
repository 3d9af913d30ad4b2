"""Who may import whom, read off the syntax trees."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("config", "scheduling", "workers", "examples")

# Rooms of `scheduling` that may also look at `workers`.
EDGES = (
    "scheduling.admin",
    "scheduling.views",
    "scheduling.management",
    "scheduling.templatetags",
)
# What `workers` may use of `scheduling`. The package itself stands for the names that it exports.
OPEN_TO_WORKERS = {
    "scheduling",
    *(
        f"scheduling.{name}"
        for name in (
            "runs",
            "models",
            "signals",
            "conf",
            "errors",
            "lateness",
            "limits",
            "message_headers",
            "outcome",
            "ping_urls",
            "channels",
            "recipients",
            "registry",
            "outbox",
            "pools",
            "cadence",
            "clock",
            "context",
            "redis",
            "services",
        )
    ),
}
# Who alone may import what.
ONLY = {
    "redis": ("scheduling.redis", "workers.locks"),
    "django_celery_beat": ("scheduling.declarations", "scheduling.admin"),
    "celery.beat": ("scheduling.beat",),
    "apprise": ("scheduling.channels", "workers.notifications.sending"),
    "config": ("config",),
}
# Loaded without Django's settings; `cadence` and `selection` join them when they exist.
PURE = (
    "schedules",
    "calendars",
    "clashes",
    "cron",
    "policies",
    "cadence",
    "selection",
    "errors",
    "registry",
    "declared_keywords",
    "declared_values",
    "ping_urls",
    "recipients",
    "context",
    "graphs",
    "measures",
    "sizes",
    "spans",
    "zones",
    "shadow_report",
    "shell_words",
    "crontab_commands",
    "crontab_files",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full name of everything that is imported anywhere in a file."""
    package = module_name(path)
    if path.name != "__init__.py":
        package = package.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def all_imports() -> list[tuple[str, str]]:
    return [
        (module_name(path), name)
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if "migrations" not in path.parts
        for name in imports_of(path)
    ]


def test_scheduling_proper_knows_nothing_of_workers() -> None:
    assert [
        (module, name)
        for module, name in all_imports()
        if is_in(module, "scheduling")
        and is_in(name, "workers")
        and not any(is_in(module, edge) for edge in EDGES)
    ] == []


def test_workers_use_only_what_is_open_to_them() -> None:
    exported = names_exported_by_scheduling()
    assert [
        (module, name)
        for module, name in all_imports()
        if is_in(module, "workers")
        and is_in(name, "scheduling")
        and not any(is_in(name, room) for room in OPEN_TO_WORKERS - {"scheduling"})
        and name.removeprefix("scheduling.") not in exported
    ] == []


def names_exported_by_scheduling() -> set[str]:
    tree = ast.parse((ROOT / "scheduling" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", ONLY)
def test_some_packages_have_one_door(package: str) -> None:
    assert [
        (module, name)
        for module, name in all_imports()
        if is_in(name, package) and not any(is_in(module, room) for room in ONLY[package])
    ] == []


@pytest.mark.parametrize(
    "module", [name for name in PURE if (ROOT / "scheduling" / f"{name}.py").exists()]
)
def test_a_pure_module_imports_without_django_settings(module: str) -> None:
    environ = {
        name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
    }
    code = (
        f"import sys, scheduling.{module};"
        "from django.conf import settings;"
        "assert not settings.configured;"
        "assert 'django.db.models' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=environ, cwd=ROOT, check=True)
