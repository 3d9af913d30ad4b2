"""The admin of the uptime example: one form adds an endpoint, and every change counts at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from examples.uptime import endpoints
from examples.uptime.models import Endpoint, Probe
from scheduling import clock
from scheduling.models import Cause, Run, State, Target
from scheduling.sources import progress, sources
from scheduling.sync import sync
from tests.factories import NOW
from tests.integration.admin_pages import log_in, messages_of, page, text_of
from tests.integration.uptime import add, fresh, target_of

pytestmark = pytest.mark.django_db

ADD = "uptime_endpoint_add"
CHANGE = "uptime_endpoint_change"
LIST = "uptime_endpoint_changelist"
NASTY = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def jobs() -> None:
    sync(now=NOW)


@pytest.fixture
def admin() -> Client:
    return log_in(superuser=True, name="root")


def form(*probes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Give what a browser posts, with inline rows for `probes`."""
    rows = {
        f"probes-{number}-{name}": value
        for number, probe in enumerate(probes)
        for name, value in {"kind": "http_status", "expects": "", "address": "", **probe}.items()
    }
    return {
        "name": "shop",
        "address": "https://shop.example.org/",
        "schedule": "every 5m",
        "is_active": "on",
        "probes-TOTAL_FORMS": len(probes),
        "probes-INITIAL_FORMS": sum(bool(probe.get("id")) for probe in probes),
        **rows,
        **fields,
    }


def test_name_address_and_frequency_are_all_it_takes(admin: Client) -> None:
    response = admin.post(page(ADD), form(schedule="every  2m"), follow=True)
    assert response.status_code == 200
    endpoint = Endpoint.objects.get()
    assert endpoint.schedule == "every 2m"
    assert target_of(endpoint).next_fire_at is not None
    run = Run.objects.get(target=target_of(endpoint))
    assert (run.state, run.requested_by) == (State.QUEUED, "root")


def test_probes_are_a_part_of_the_form(admin: Client) -> None:
    admin.post(page(ADD), form({"expects": "200"}, {"kind": "tls_expiry", "expects": "14d"}))
    assert list(Probe.objects.values_list("kind", "expects")) == [
        ("http_status", "200"),
        ("tls_expiry", "14d"),
    ]


@pytest.mark.parametrize(
    ("probes", "fields", "words"),
    [
        ([], {"schedule": "every now and then"}, "cannot be read"),
        ([], {"schedule": "once 2020-01-01T00:00:00+00:00"}, "no fire time after now"),
        ([], {"address": "file:///etc/passwd"}, "cannot be probed"),
        ([], {"address": "shop.example.org"}, "names no port"),
        ([], {"address": "https://shop example.org/"}, "has a space in it"),
        ([], {"tags": "two\nlines"}, "cannot be seen"),
        ([{"expects": "2xx"}], {}, "is no HTTP status"),
        ([{"kind": "redis_ping"}], {}, "cannot be asked of a https address"),
        ([{"kind": "redis_ping", "address": "redis://"}], {}, "names no host"),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(
    probes: list[dict[str, Any]], fields: dict[str, Any], words: str, admin: Client
) -> None:
    response = admin.post(page(ADD), form(*probes, **fields))
    assert response.status_code == 200
    assert words in text_of(response)
    assert not Endpoint.objects.exists()
    assert not Target.objects.filter(key="shop").exists()


def test_another_frequency_moves_the_next_check(admin: Client) -> None:
    endpoint = add("shop", schedule="every 1h")
    admin.post(page(CHANGE, endpoint.pk), form(schedule="every 1m"))
    target = target_of(endpoint)
    assert target.schedule == "every 1m"
    assert target.next_fire_at is not None
    assert target.next_fire_at - clock.now() <= timedelta(minutes=1)


def test_the_name_of_an_endpoint_stays(admin: Client) -> None:
    endpoint = add("shop")
    admin.post(page(CHANGE, endpoint.pk), form(name="store"))
    assert fresh(endpoint).name == "shop"


def test_an_endpoint_can_be_put_to_sleep_and_woken(admin: Client) -> None:
    endpoint = add("shop")
    asleep = form()
    del asleep["is_active"]
    admin.post(page(CHANGE, endpoint.pk), asleep)
    assert target_of(endpoint).retired_at is not None
    assert "not active" in text_of(admin.get(page(LIST)))
    admin.post(page(CHANGE, endpoint.pk), form())
    assert target_of(endpoint).retired_at is None


def test_deleting_retires_the_targets(admin: Client) -> None:
    one, two, three = add("one"), add("two"), add("three")
    question = admin.get(page("uptime_endpoint_delete", one.pk))
    assert "one" in text_of(question)
    admin.post(page("uptime_endpoint_delete", one.pk), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [two.pk], "post": "yes"}
    admin.post(page(LIST), chosen)
    assert list(Endpoint.objects.all()) == [three]
    retired = Target.objects.filter(job__name=endpoints.CHECK, retired_at__isnull=False)
    assert sorted(retired.values_list("key", flat=True)) == ["one", "two"]


def test_checking_now_makes_a_run_by_hand(admin: Client) -> None:
    chosen = {"action": "check_selected", "_selected_action": [add("shop").pk]}
    response = admin.post(page(LIST), chosen, follow=True)
    run = Run.objects.latest("created_at")
    assert (run.key, run.cause, run.requested_by) == ("shop", Cause.MANUAL, "root")
    assert "shop is checked now" in messages_of(response)[0]


def test_checking_what_never_was_active_says_why_not(admin: Client) -> None:
    chosen = {"action": "check_selected", "_selected_action": [add("shop", is_active=False).pk]}
    response = admin.post(page(LIST), chosen, follow=True)
    assert "has no target 'shop'" in messages_of(response)[0]


def test_checking_now_needs_the_permission_to_run_jobs() -> None:
    client = log_in("view_endpoint", "change_endpoint")
    chosen = {"action": "check_selected", "_selected_action": [add("shop").pk]}
    client.post(page(LIST), chosen)
    assert Run.objects.get().requested_by == "tester"  # the first one, from adding it


# --- endpoints that a file names


@pytest.fixture
def listed(tmp_path: Path, settings: Settings) -> Endpoint:
    settings.UPTIME_ENDPOINTS = file = tmp_path / "endpoints.csv"
    file.write_text("name,address\nfiled,127.0.0.1:9\n", encoding="utf-8")
    declaration = sources.get("inventory")
    assert declaration is not None
    progress.run(declaration, is_full=True)
    return Endpoint.objects.get()


def test_an_endpoint_of_the_file_is_shown_and_is_not_to_be_edited(
    listed: Endpoint, admin: Client
) -> None:
    add("by hand")
    assert "as soon as there is a slot" in text_of(admin.get(page(LIST)))
    shown = admin.get(page(CHANGE, listed.pk))
    assert "127.0.0.1:9" in text_of(shown)
    assert "From the file" in text_of(shown)
    assert "Probes" not in text_of(shown)
    assert "Frequency" not in text_of(shown)
    assert admin.post(page(CHANGE, listed.pk), form(address="evil:1")).status_code == 403
    assert fresh(listed).address == "127.0.0.1:9"
    only = admin.get(page(LIST, is_listed__exact="1"))
    assert "filed" in text_of(only)
    assert "by hand" not in text_of(only)


def test_an_endpoint_may_be_deleted_once_the_file_does_not_name_it(
    listed: Endpoint, admin: Client
) -> None:
    by_hand = add("by hand")
    chosen = {
        "action": "delete_selected",
        "_selected_action": [listed.pk, by_hand.pk],
        "post": "yes",
    }
    assert admin.post(page("uptime_endpoint_delete", listed.pk), {"post": "yes"}).status_code == 403
    assert "which the file names" in text_of(admin.post(page(LIST), chosen))
    assert Endpoint.objects.count() == 2
    Endpoint.objects.filter(pk=listed.pk).update(is_active=False)
    admin.post(page(LIST), chosen)
    assert not Endpoint.objects.exists()


def test_an_endpoint_of_the_file_can_be_checked_now(listed: Endpoint, admin: Client) -> None:
    admin.post(page(LIST), {"action": "check_selected", "_selected_action": [listed.pk]})
    run = Run.objects.get()
    assert (run.name, run.key) == (endpoints.INVENTORY, "filed")


# --- the list


def test_the_list_says_how_endpoints_stand(admin: Client) -> None:
    now = clock.now()
    good, bad = add("good"), add("bad")
    add("new")
    Endpoint.objects.filter(pk=good.pk).update(
        is_up=True, checked_at=now, response_ms=12.3, reliability=99.951
    )
    Endpoint.objects.filter(pk=bad.pk).update(is_up=False, checked_at=now, message=NASTY)
    response = admin.get(page(LIST))
    text = text_of(response)
    assert "never checked" in text
    assert "failing" in text
    assert "99.95 %" in text
    assert "12 ms" in text
    assert "its runs" in text
    assert NASTY not in response.content.decode()
    target = target_of(good)
    assert f"target__id__exact={target.pk}" in response.content.decode()
    runs_of_it = admin.get(page("scheduling_run_changelist", target__id__exact=str(target.pk)))
    assert runs_of_it.status_code == 200


def test_a_list_of_fifty_endpoints_takes_few_queries(
    admin: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(50):
        add(f"endpoint {number:02}")
    admin.get(page(LIST))
    # Session, user, two counts, the rows, their targets.
    with django_assert_num_queries(6):
        response = admin.get(page(LIST))
    assert "endpoint 49" in text_of(response)


def test_the_forms_open(admin: Client) -> None:
    endpoint = add("shop", address="$WEB_URL/healthz")
    assert "Probes" in text_of(admin.get(page(ADD)))
    changing = text_of(admin.get(page(CHANGE, endpoint.pk)))
    assert "never checked" in changing


def test_endpoints_are_in_the_sidebar(admin: Client) -> None:
    assert page(LIST) in admin.get(page("index")).content.decode()
