"""Who can be told: addresses, names of channels, and what JOBS_CHANNELS may hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage

from config import env, env_check
from config.problem import Problem
from scheduling import channels, job, telling_checks
from scheduling.checks import check_settings
from scheduling.declared_values import as_recipients
from scheduling.errors import InvalidDeclaration
from scheduling.recipients import distinct, require_recipient

ROOT = Path(__file__).resolve().parents[2]
SECRET = "T0P-s3cr3t"


@pytest.mark.parametrize(
    "text", ["ops@example.org", "root@localhost", "o.p+s@ex-ample.org", "slack", "team-a.b_c", "7"]
)
def test_an_address_or_a_name_is_a_recipient(text: str) -> None:
    assert require_recipient(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not an address",
        "a@b@c",
        "@example.org",
        "a@example.org, b@example.org",
        "a@example.org\nBcc: b@example.org",
        "a@example.org\x0bBcc: b@example.org",
        "<a@example.org>",
        "slack\r\n",
        "sla ck",
        "a@" + "x" * 300,
        "https://hooks.example.org/x",
        "-slack",
    ],
)
def test_what_could_break_a_header_or_name_two_is_none(text: str) -> None:
    with pytest.raises(InvalidDeclaration, match="is not an e-mail address or the name"):
        require_recipient(text)


@pytest.mark.parametrize("value", [[None], [object()], {"a": 1}, 5, ["a@example.org", 7], [""]])
def test_g17_null_and_objects_are_no_recipients(value: object) -> None:
    with pytest.raises(InvalidDeclaration, match="Job 'books': recipients is "):
        as_recipients(value, "books", "recipients")


def test_a_declaration_with_a_recipient_that_is_none_names_job_and_value() -> None:
    def close() -> None:
        pass

    with pytest.raises(InvalidDeclaration, match="Job 'books': recipients: 'not one' is not"):
        job(name="books", recipients=["a@example.org", "not one"])(close)


def test_each_is_told_once_and_case_matters_for_channels_only() -> None:
    given = ["A@example.org", "slack", "a@EXAMPLE.org", "Slack", "slack"]
    assert distinct(given) == ["A@example.org", "slack", "Slack"]


# --- channels -------------------------------------------------------------------------------------

WEBHOOK = {"url": f"https://example.org/{SECRET}"}


def test_a_channel_is_the_address_of_a_service_or_a_webhook(settings: Any) -> None:
    settings.JOBS_CHANNELS = {
        "teams": f"json://example.org/{SECRET}",
        "own": WEBHOOK | {"body": "form", "fields": {"team": "books", "level": 3}},
    }
    assert channels.known() == ["own", "teams"]
    own = channels.find("own")
    assert isinstance(own, channels.Webhook)
    assert (own.body, dict(own.fields)) == ("form", {"team": "books", "level": 3})
    assert SECRET not in repr(own)
    assert not isinstance(channels.find("teams"), channels.Webhook)


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (f"nonsense://{SECRET}", "no address that apprise can read"),
        ("", "no address that apprise can read"),
        (None, "is of type NoneType"),
        ([SECRET], "is of type list"),
        ({}, "no web address"),
        ({"url": f"ftp://example.org/{SECRET}"}, "no web address"),
        ({"url": f"https://user:{SECRET}@example.org"}, "no web address"),
        ({"url": f"https://example.org/{SECRET}\r\nHost: x"}, "no web address"),
        ({"url": f"file:///{SECRET}"}, "no web address"),
        (WEBHOOK | {"body": "xml"}, "write 'json' or 'form'"),
        (WEBHOOK | {"fields": [SECRET]}, "fields is not a dict"),
        (WEBHOOK | {"fields": {"a": {"b": SECRET}}}, "fields is not a dict"),
        (WEBHOOK | {"feilds": {"a": SECRET}}, "has 'feilds'"),
    ],
)
def test_a_channel_that_cannot_be_used_says_why_and_keeps_its_secret(
    channel: object, said: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.JOBS_CHANNELS = {"own": channel}
    with pytest.raises(channels.UnusableChannel, match="Channel 'own'") as refused:
        channels.find("own")
    assert said in str(refused.value)
    [warning] = telling_checks.check_channels(None)
    assert warning.id == "scheduling.W020"
    assert SECRET not in f"{refused.value}{warning}{caplog.text}"


def test_a_name_that_is_not_there_is_answered_with_those_that_are(settings: Any) -> None:
    settings.JOBS_CHANNELS = {"slack": f"json://example.org/{SECRET}"}
    with pytest.raises(channels.UnusableChannel, match=r"no channel 'slak'.*known: slack"):
        channels.find("slak")


def test_settings_that_name_unknown_channels_are_found(settings: Any) -> None:
    settings.JOBS_CHANNELS = {"slack": f"json://example.org/{SECRET}"}
    settings.JOBS_NOTIFY = ("slack", "ops@example.org")
    assert own(telling_checks.check_recipients(None)) == []
    settings.JOBS_NOTIFY = ("slak", "ops@example.org")
    [warning] = own(telling_checks.check_recipients(None))
    assert (warning.id, "'slak'" in warning.msg) == ("scheduling.W021", True)


def own(found: list[CheckMessage]) -> list[CheckMessage]:
    return [each for each in found if each.msg.startswith("JOBS_NOTIFY")]


def test_a_mistyped_setting_of_channels_is_not_shown(settings: Any) -> None:
    settings.JOBS_CHANNELS = f"slack://{SECRET}"
    [error] = check_settings(None)
    assert error.msg.startswith("JOBS_CHANNELS is ***, which is no dict")
    assert SECRET not in str(error)


def test_apprise_is_imported_by_nobody_who_needs_no_service() -> None:
    code = (
        "import django; django.setup(); import sys;"
        "import workers.notifications, scheduling.management.verbs, scheduling.admin.muting;"
        "assert 'apprise' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("slack=slack://a/b/c?x=y\n\n team = msteams://d ", None),
        ('{"own": {"url": "https://example.org"}}', {"own": {"url": "https://example.org"}}),
    ],
)
def test_channels_come_from_the_environment(
    text: str, expected: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_CHANNELS", text)
    if expected is None:
        expected = {"slack": "slack://a/b/c?x=y", "team": "msteams://d"}
    assert env.channels() == expected


@pytest.mark.parametrize("text", [f"slack {SECRET}", f"={SECRET}", f'{{"own": "{SECRET}"'])
def test_what_cannot_be_meant_is_refused_without_showing_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_CHANNELS", text)
    with pytest.raises(Problem, match="JOBS_CHANNELS") as refused:
        env_check.check()
    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
