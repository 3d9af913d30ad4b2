"""docker-compose.yml, read as an engine would read it, since none may be at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
LASTING = sorted(SERVICES.keys() - {"migrate"})

# The keys of the Compose specification that we use; an engine refuses a misspelt one.
KEYS = {
    *(
        "build",
        "cap_drop",
        "command",
        "depends_on",
        "deploy",
        "environment",
        "healthcheck",
        "image",
    ),
    *("init", "ports", "restart", "security_opt", "stop_grace_period", "volumes"),
}


def test_it_names_every_process() -> None:
    assert set(SERVICES) == {
        *("postgres", "valkey", "migrate"),
        *("web", "beat", "worker", "services", "flower"),
    }


@pytest.mark.parametrize("name", SERVICES)
def test_it_uses_only_known_keys(name: str) -> None:
    assert set(SERVICES[name]) - KEYS == set()


def test_there_are_two_beats() -> None:
    assert SERVICES["beat"]["deploy"] == {"replicas": 2}


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_service_has_a_health_check_and_restarts(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"].keys() >= {"test", "interval", "timeout", "retries"}
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize("name", ["web", "beat", "worker", "services", "flower"])
def test_nothing_of_ours_starts_before_the_migrations(name: str) -> None:
    assert SERVICES[name]["depends_on"]["migrate"] == {
        "condition": "service_completed_successfully"
    }


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_only_for_services_that_exist_and_can_be_healthy(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in SERVICES
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[needed]


def test_no_secret_has_a_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET)\w*)(.*?)\}", TEXT)
    assert {name for name, _ in secrets} == {
        *("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "DJANGO_SECRET_KEY")
    }
    assert all(rest.startswith(":?") for _, rest in secrets)


def test_ports_are_published_on_the_loopback_address_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000", "127.0.0.1:5555:5555"]


def test_the_broker_keeps_its_data_and_forgets_nothing() -> None:
    command = " ".join(SERVICES["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "requirepass" in command
    assert "--requirepass" not in command


def test_volumes_are_declared() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert used == set(yaml.safe_load(TEXT)["volumes"])


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    dockerfile = (ROOT / SERVICES["web"]["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert "--constraint config/constraints.txt" in dockerfile
    assert dockerfile.rstrip().endswith("USER beatkeeper")
