"""How a job is fed and how polite it is: typed as JSON, checked, told in words."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from scheduling.feeds import Cooldowns, Express, Feed, Polite
from tests.integration.admin_pages import declared, errors_of, log_in, page, saved, text_of

pytestmark = pytest.mark.django_db

FEED = Feed(
    shares={"stalest": 3, "never_checked": 1, "until_success": 0},
    cooldowns=Cooldowns(absolute=timedelta(hours=1), in_flight=None, missing=None),
    max_queue_length=50,
    express=Express(queue="fast", limit=5),
    sample=0.1,
).as_json()
POLITE = Polite(at_once=2, per_second=0.5, group="crawlers").as_json()


@pytest.fixture
def editor() -> Client:
    return log_in("view_job", "change_job", "add_job")


def test_what_is_typed_is_stored_complete_as_an_override(editor: Client) -> None:
    job = declared()
    typed = {"feed": "{}", "polite": '{"per_second": 1}'}
    assert saved(editor, job, **typed).status_code == 302
    job.refresh_from_db()
    assert job.feed == Feed().as_json()
    assert job.polite == Polite(per_second=1.0).as_json()
    assert job.overrides.keys() == {"feed", "polite"}


def test_a_form_that_nobody_touched_changes_nothing(editor: Client) -> None:
    job = declared(feed=FEED, polite=POLITE)
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    assert json.loads(form["feed"].value()) == FEED
    assert saved(editor, job).status_code == 302
    job.refresh_from_db()
    assert job.overrides == {}
    assert (job.feed, job.polite) == (FEED, POLITE)


def test_both_are_emptied_again(editor: Client) -> None:
    job = declared(feed=FEED, polite=POLITE)
    assert saved(editor, job, feed="", polite=" ").status_code == 302
    job.refresh_from_db()
    assert (job.feed, job.polite) == (None, None)


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("feed", "[1]", "give a mapping"),
        ("feed", '{"shares": {"random": 1}}', "names the strategy 'random'"),
        ("feed", '{"max_queue_length": 0}', "give a number from 1"),
        ("feed", '{"queue": "slow"}', "has 'queue'"),
        ("feed", '{"sample": NaN}', "Not valid JSON"),
        ("polite", "{}", "limits nothing"),
        ("polite", '{"by": "moon", "at_once": 1}', "give host, key, resource or label:NAME"),
        ("polite", '{"per_second": 0}', "from 1e-05"),
        ("polite", "{", "Not valid JSON"),
    ],
)
def test_nonsense_is_refused_with_what_to_write(
    editor: Client, field: str, typed: str, said: str
) -> None:
    response = saved(editor, declared(), **{field: typed})
    assert said in " ".join(errors_of(response)[field])
    # What was typed is still there.
    assert response.context["adminform"].form[field].value() == typed


@pytest.mark.parametrize(
    ("fields", "sentences"),
    [
        (
            {"feed": FEED, "polite": POLITE},
            [
                "Fed: at most 50 runs are open at once",
                "Picked by stalest 75%, never_checked 25%",
                "A target is left alone for 1h after a pick, 14d after a failure",
                "New ones go through the queue 'fast', at most 5 at once",
                "Each pick looks at 10% of what may be picked",
                "Each host: at most 2 runs at once and 0.5 starts per second, shared by the group "
                "crawlers",
            ],
        ),
        (
            {
                "feed": Feed(shares={}).as_json(),
                "polite": Polite(by="label:t", at_once=1).as_json(),
            },
            ["No targets are picked", "Each value of the label t: at most 1 run at once"],
        ),
        ({"polite": {"by": "<b>"}}, ["It cannot be read how it is fed: polite.by is '<b>'"]),
    ],
)
def test_the_page_tells_it_in_words(
    editor: Client, fields: dict[str, Any], sentences: list[str]
) -> None:
    response = editor.get(page("scheduling_job_change", declared(**fields).pk))
    for sentence in sentences:
        assert sentence in text_of(response).replace("&lt;", "<")
    assert b"is '<b>'" not in response.content
