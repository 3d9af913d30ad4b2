"""The chain on the page of a run: who led to whom, what comes next, what still waits."""

from __future__ import annotations

import re

import pytest
from django.test import Client, override_settings
from pytest_django import DjangoAssertNumQueries

from scheduling import runs
from scheduling.admin import chain
from scheduling.models import Job, Reason, Run, State, Target
from tests.factories import NOW, make_job
from tests.integration.admin_pages import log_in, page, text_of
from tests.integration.chains import BROKEN, end, follower, job, join, tie, trigger

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    return log_in(superuser=True, name="root")


@pytest.fixture
def diamond() -> dict[str, Job]:
    """close -> mail, post; archive after both of them; then clean."""
    jobs = {name: job(name) for name in ("close", "mail", "post", "archive", "clean")}
    tie(jobs["close"], jobs["mail"])
    tie(jobs["close"], jobs["post"])
    join(jobs["archive"], jobs["mail"], jobs["post"])
    tie(jobs["archive"], jobs["clean"], "any")
    return jobs


def shown(admin: Client, run: Run) -> str:
    """The words of the chain's card."""
    response = admin.get(page("scheduling_run_change", run.pk))
    assert response.status_code == 200
    found = re.search(r'<section class="bk-card" id="chain">.*?</section>', text(response), re.S)
    return "" if found is None else " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def text(response: object) -> str:
    body = response.content.decode()  # type: ignore[attr-defined]
    assert isinstance(body, str)
    return body


def names(nodes: list[chain.Node]) -> list[object]:
    """The tree as nested lists of names."""
    return [[re.sub(r"<[^>]+>", "", node.link), *names(node.children)] for node in nodes]


def test_the_chain_is_drawn_on_the_page_of_each_of_its_runs(
    admin: Client, diamond: dict[str, Job]
) -> None:
    first = end(trigger(diamond["close"]))
    end(follower("mail"))
    for run in (first, follower("mail"), follower("post")):
        found = chain.chain_of(run, NOW)
        assert found is not None
        assert names(found.tree) == [["close", ["mail"], ["post"]]]
        for word in ("close", "mail", "post"):
            assert word in shown(admin, run)
    page_of_mail = text(admin.get(page("scheduling_run_change", follower("mail").pk)))
    assert page_of_mail.count("bk-here") == 1


def test_a_join_hangs_under_the_run_that_ended_last(diamond: dict[str, Job]) -> None:
    end(trigger(diamond["close"]))
    end(follower("mail"))
    end(follower("post"))
    found = chain.chain_of(follower("archive"), NOW)
    assert found is not None
    assert names(found.tree) == [["close", ["mail"], ["post", ["archive"]]]]
    assert found.tree[0].children[1].children[0].is_joined
    assert found.awaited == []


def test_what_comes_next_is_told_with_its_condition(admin: Client, diamond: dict[str, Job]) -> None:
    run = trigger(diamond["close"])
    assert "mail if it succeeds" in shown(admin, run)
    end(run)
    end(follower("mail"))
    end(follower("post"))
    assert "clean when it ends" in shown(admin, follower("archive"))


def test_a_join_tells_whom_it_waits_for(admin: Client, diamond: dict[str, Job]) -> None:
    run = trigger(diamond["close"])
    assert "archive waits for mail (not begun) , post (not begun)" in shown(admin, run)
    end(run)
    end(follower("mail"))
    assert "archive waits for mail (succeeded) , post (queued)" in shown(admin, run)


def test_a_join_that_can_no_longer_come_says_why(admin: Client, diamond: dict[str, Job]) -> None:
    run = end(trigger(diamond["close"]))
    end(follower("mail"))
    end(follower("post"), BROKEN)
    assert "archive did not run it needed mail (succeeded) , post (failed)" in shown(admin, run)


def test_a_run_that_stands_alone_has_no_chain(admin: Client) -> None:
    run = end(trigger(job("alone")))
    assert chain.chain_of(run, NOW) is None
    assert shown(admin, run) == ""


def test_a_skipped_run_has_nothing_to_come(diamond: dict[str, Job]) -> None:
    run = trigger(diamond["close"])
    runs.cancel(run.pk, by="ann", now=NOW)
    assert chain.chain_of(Run.objects.get(pk=run.pk), NOW) is None


def test_of_a_long_chain_the_oldest_and_the_way_to_this_run_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain, "MOST_SHOWN", 5)
    a, b = job("a"), job("b", *"pqrstuv")
    c = job("c", *"pqrstuv")
    tie(a, b)
    tie(b, c)
    end(trigger(a))
    end(Run.objects.get(job=b, key="v"))
    found = chain.chain_of(Run.objects.get(job=c), NOW)
    assert found is not None
    assert names(found.tree) == [["a", ["b p"], ["b q"], ["b r"], ["b s"], ["b v", ["c v"]]]]
    assert (found.shown, found.more) == (7, 2)


def test_names_and_keys_are_escaped(admin: Client) -> None:
    evil = "<script>alert(1)</script>"
    a, b = job(evil, evil), job(f"b {evil}", evil)
    tie(a, b)
    run = trigger(a, evil)
    assert "<script>alert" not in text(admin.get(page("scheduling_run_change", run.pk)))
    end(run)
    assert "<script>alert" not in text(admin.get(page("scheduling_run_change", run.pk)))


def test_a_chain_costs_few_queries(
    diamond: dict[str, Job], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    fan = make_job("fan")
    Target.objects.bulk_create(Target(job=fan, key=f"{n:03}") for n in range(250))
    tie(diamond["close"], fan)
    first = end(trigger(diamond["close"]))
    last = Run.objects.filter(job=fan).latest("key")
    for run in (first, last):
        with django_assert_max_num_queries(12):
            found = chain.chain_of(run, NOW)
        assert found is not None
        assert found.more > 0


@override_settings(JOBS_FOLLOW_UP_DEPTH=1)
def test_a_skip_in_the_chain_says_why(admin: Client) -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b)
    tie(b, c)
    first = end(trigger(a))
    end(follower("b"))
    assert follower("c").reason == Reason.CAPPED
    assert f"c {State.SKIPPED.label} {Reason.CAPPED.label}" in shown(admin, first)
    assert text_of(admin.get(page("scheduling_run_change", follower("c").pk)))
