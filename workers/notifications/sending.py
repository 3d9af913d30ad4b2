"""Sending one message: as a mail, to a service that apprise knows, or to a webhook.

Each takes JOBS_SEND_LIMIT at most. Addresses of channels are secrets: of what goes wrong only the
kind is told.
"""

from __future__ import annotations

import json
import re
import smtplib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import connections

from scheduling import channels
from scheduling.conf import conf
from scheduling.models import Event
from workers.notifications.message import Message
from workers.pings import NoRedirects

if TYPE_CHECKING:
    from apprise import NotifyBase

MAIL = "mail"
# What did not answer is left alone so long, as other rows and other runs wait for us.
REST = timedelta(seconds=30)
BAD = frozenset({Event.FAILING, Event.STILL_FAILING, Event.LOST, Event.CIRCUIT_OPENED})
GOOD = frozenset({Event.FIXED, Event.SUCCEEDED, Event.CIRCUIT_CLOSED})
# The server itself is away; anything else may be about this message.
DOWN = (
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    smtplib.SMTPConnectError,
    smtplib.SMTPServerDisconnected,
    smtplib.SMTPAuthenticationError,
)


class Unsent(Exception):
    """Not sent. The text has no secret in it; `is_down`: nobody answered."""

    def __init__(self, why: str, *, is_down: bool = False) -> None:
        super().__init__(why)
        self.is_down = is_down


def send_mail(message: Message, *, addresses: Sequence[str]) -> None:
    """Send one mail to all addresses. Raises Unsent."""

    def act() -> None:
        mail = EmailMultiAlternatives(
            subject=f"[Beatkeeper] {message.title}",
            body=message.text,
            from_email=conf.NOTIFY_FROM or None,
            to=addresses,
            connection=get_connection(timeout=conf.SEND_LIMIT.total_seconds()),
            headers={"Auto-Submitted": "auto-generated"},
        )
        if message.html:
            mail.attach_alternative(message.html, "text/html")
        try:
            mail.send()
        except Exception as error:
            # Mail back ends raise what they like.
            why = f"{type(error).__name__}: {error}"
            raise Unsent(why, is_down=isinstance(error, DOWN)) from error

    _limited(MAIL, act)


def send_to_channel(message: Message, *, name: str) -> None:
    """Send to a channel of JOBS_CHANNELS. Raises Unsent."""
    try:
        channel = channels.find(name)
    except channels.UnusableChannel as error:
        raise Unsent(str(error)) from error
    if isinstance(channel, channels.Webhook):
        webhook = channel
        _limited(name, lambda: _post(webhook, message))
    else:
        service = channel
        _limited(name, lambda: _notify(service, message))


def _post(webhook: channels.Webhook, message: Message) -> None:
    fields = {**webhook.fields, **message.fields}
    if webhook.body == "json":
        body, kind = json.dumps(fields), "application/json"
    else:
        texts = {name: "" if value is None else str(value) for name, value in fields.items()}
        body, kind = urlencode(texts), "application/x-www-form-urlencoded"
    headers = {"User-Agent": "Beatkeeper", "Content-Type": kind}
    request = urllib.request.Request(webhook.url, data=body.encode(), headers=headers)
    try:
        with _opener.open(request, timeout=conf.SEND_LIMIT.total_seconds()):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise Unsent(f"HTTP {error.code}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Unsent(type(reason).__name__, is_down=True) from None


def _notify(service: NotifyBase, message: Message) -> None:
    from apprise import NotifyFormat, NotifyType

    kind = NotifyType.WARNING
    if message.event in BAD:
        kind = NotifyType.FAILURE
    elif message.event in GOOD:
        kind = NotifyType.SUCCESS
    with channels.unlogged() as lines:
        is_sent = service.notify(
            body=message.text,
            title=message.title,
            notify_type=kind,
            # What a run wrote is no markup: it must not call everybody in a chat.
            body_format=NotifyFormat.TEXT,
        )
    if not is_sent:
        status = re.search(r"error=(\d{3})\b", "\n".join(lines))
        raise Unsent(f"HTTP {status[1]}" if status else "the service did not take it")


_opener = urllib.request.build_opener(NoRedirects)
# By name of the channel: until when it is left alone (monotonic), and why.
_resting: dict[str, tuple[float, str]] = {}


def forget() -> None:
    """Try everything again at once."""
    _resting.clear()


def _limited(name: str, act: Callable[[], None]) -> None:
    """Do it on a thread of its own, which is left behind if it takes too long. Raises Unsent."""
    until, why = _resting.get(name, (0.0, ""))
    if time.monotonic() < until:
        raise Unsent(why)
    found: list[BaseException] = []

    def work() -> None:
        try:
            act()
        except BaseException as error:
            found.append(error)
        finally:
            # A mail back end may keep its mails in the database.
            connections.close_all()

    thread = threading.Thread(target=work, name=f"sending to {name}", daemon=True)
    thread.start()
    thread.join(conf.SEND_LIMIT.total_seconds())
    if thread.is_alive():
        found = [Unsent(f"no answer within {conf.SEND_LIMIT.total_seconds():g} s", is_down=True)]
    if not found:
        _resting.pop(name, None)
        return
    error = found[0]
    if isinstance(error, Exception) and not isinstance(error, Unsent):
        raise Unsent(type(error).__name__) from None
    if isinstance(error, Unsent) and error.is_down:
        _resting[name] = (time.monotonic() + REST.total_seconds(), str(error))
    raise error
