"""Whom to tell, and whether somebody asked for quiet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from scheduling import channels
from scheduling.conf import conf
from scheduling.models.base import Told
from scheduling.recipients import distinct, is_address
from workers.notifications.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """`addresses` share one mail; `errors` say why others can never be told as things stand."""

    addresses: tuple[str, ...]
    channels: tuple[str, ...]
    errors: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.channels)


def recipients_of(subject: Subject) -> Recipients:
    """Those of the job, the resource and the circuit; JOBS_NOTIFY if these have none to be told.

    So an alert is not lost because the only address of its job was mistyped.
    """
    own = _sorted(each for scope in subject.scopes for each in scope.recipients)
    if own:
        return own
    default = _sorted(conf.NOTIFY)
    return Recipients(
        addresses=default.addresses,
        channels=default.channels,
        errors=(*own.errors, *default.errors),
    )


def _sorted(recipients: Iterable[object]) -> Recipients:
    # As rows have them: somebody may have written them by hand.
    addresses, names, errors = [], [], []
    known = channels.known()
    for each in distinct(map(str, recipients)):
        if is_address(each):
            addresses.append(each)
        elif each in known:
            names.append(each)
        elif "@" in each:
            errors.append(f"{each!r} is not an e-mail address")
        else:
            errors.append(channels.unknown(each))
    return Recipients(addresses=tuple(addresses), channels=tuple(names), errors=tuple(errors))


def mute_of(subject: Subject, now: datetime) -> Told | None:
    """The mute that lasts longest of those that are in force; None if nobody asked for quiet."""
    muted = [scope for scope in subject.scopes if scope.is_muted(now)]
    return max(muted, key=lambda scope: scope.muted_until or now, default=None)
