"""Endpoints by the thousand: named by a CSV file, checked as often as each deserves.

A line is `name,address` and, if there are such columns, `kind,expects,tags`. Its name is the key of
its resource and its target, whose arguments are what the line says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.db.models import Exists, OuterRef

from examples.uptime import addresses, probes
from examples.uptime.conf import conf
from examples.uptime.endpoints import INVENTORY
from examples.uptime.models import Endpoint
from examples.uptime.net import split
from scheduling.models import Target
from scheduling.sources import Listing, Named, Page, Unread, from_csv

# What the columns of an endpoint keep
LONGEST_NAME = 100
LONGEST_ADDRESS = 1000
LONGEST_TAGS = 200


def enumerate_file(listing: Listing) -> Iterator[Named | Page | Unread]:
    """Name what the file says; each page of it has its rows here before it has its targets.

    So a check finds its endpoint. What is listed again after an interruption changes nothing.
    """
    if not conf.ENDPOINTS:
        raise FileNotFoundError("No file names endpoints; set UPTIME_ENDPOINTS to a CSV file")
    by_hand = frozenset(Endpoint.objects.filter(is_listed=False).values_list("name", flat=True))

    def name_of(line: Mapping[str, str]) -> str:
        name = _read(line, "name", LONGEST_NAME)
        if name in by_hand:
            raise ValueError(f"an endpoint {name!r} was added by hand; give this one another name")
        return name

    for item in from_csv(
        listing, Path(conf.ENDPOINTS), key=name_of, kwargs=_arguments, labels=_labels
    ):
        if isinstance(item, Page):
            _write(item.items)
        yield item


def _arguments(line: Mapping[str, str]) -> dict[str, str]:
    """What the target's runs are given. Raises ValueError if nothing can be asked of the line."""
    address = _read(line, "address", LONGEST_ADDRESS)
    _refuse_password(address)
    kind, expects = (line.get(column, "").strip() for column in ("kind", "expects"))
    if any(letter.isspace() for letter in address):
        raise ValueError(f"Address {address!r} has a space in it")
    expanded = addresses.expand(address)
    if kind and kind not in probes.KINDS:
        raise ValueError(f"its kind is {kind!r}; known are {', '.join(probes.KINDS)}")
    kind = kind or probes.default_kind(expanded)
    probes.read(kind, expects, expanded)
    return {"address": address, "kind": kind, "expects": expects}


def _refuse_password(address: str) -> None:
    """Raises ValueError, in whose words it does not stand."""
    host_and_path = address.partition("://")[2] or address
    # Behind the host, an @ is only for the paths of web pages.
    is_web = address.lower().startswith(("http://", "https://"))
    if "@" in (host_and_path.partition("/")[0] if is_web else host_and_path):
        raise ValueError(
            "its address holds a name or password, which runs and pages would show: write "
            "$REDIS_URL for the broker of the installation; of others ask tcp_connect without it"
        )


def _labels(line: Mapping[str, str]) -> dict[str, Any]:
    """`host` is what politeness counts by."""
    parts = split(addresses.expand(line["address"].strip()))
    tags = line.get("tags", "").strip()
    if len(tags) > LONGEST_TAGS:
        raise ValueError(f"its tags have more than {LONGEST_TAGS} characters")
    return {"host": parts.hostname or parts.path, "tags": tags}


def _read(line: Mapping[str, str], column: str, longest: int) -> str:
    text = line.get(column, "").strip()
    if not 0 < len(text) <= longest:
        raise ValueError(f"its {column} has {len(text)} characters; give 1 to {longest}")
    return text


def _write(items: Sequence[Named]) -> None:
    """Make or change the rows of one page; one that was added by hand meanwhile stays as it is."""
    wanted = {
        item.key: Endpoint(
            name=item.key,
            address=item.kwargs["address"],
            tags=item.labels["tags"],
            schedule="",
            is_active=True,
            is_listed=True,
        )
        for item in items
    }
    columns = ("address", "tags", "is_active")
    known = {row.name: row for row in Endpoint.objects.filter(name__in=wanted)}
    changed = []
    for name, row in known.items():
        goal = [getattr(wanted[name], column) for column in columns]
        if row.is_listed and [getattr(row, column) for column in columns] != goal:
            wanted[name].pk = row.pk
            changed.append(wanted[name])
    Endpoint.objects.bulk_update(changed, columns)
    new = [row for name, row in wanted.items() if name not in known]
    Endpoint.objects.bulk_create(new, ignore_conflicts=True)


def switch_off_unlisted() -> int:
    """Switch off the endpoints whose targets were retired: the file names them no more."""
    live = Target.objects.filter(job__name=INVENTORY, key=OuterRef("name"), retired_at=None)
    gone = Endpoint.objects.filter(~Exists(live), is_listed=True, is_active=True)
    return gone.update(is_active=False)


def endpoint_of(name: str) -> Endpoint | None:
    return Endpoint.objects.filter(name=name, is_listed=True).first()
