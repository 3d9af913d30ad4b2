"""Django's querysets as sources."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet

from scheduling.errors import InvalidDeclaration
from scheduling.sources.progress import Listing
from scheduling.sources.reading import Field, Fields, Reading, as_time, named_or_unread
from scheduling.sources.values import Named, Page, Unread

# A row's time is that of its statement; its transaction may have ended later, or another host's
# clock may be behind.
OVERLAP = timedelta(minutes=5)


def from_queryset(
    listing: Listing,
    queryset: QuerySet[Any],
    *,
    key: Field,
    hint: str | None = None,
    kwargs: Fields = (),
    enabled: Field | None = None,
    labels: Fields = (),
    description: Field | None = None,
    overlap: timedelta = OVERLAP,
) -> Iterator[Page | Unread]:
    """Name the rows of a queryset, page by page; its own order does not matter.

    A full listing goes by primary key: rows that come or go meanwhile shift no page. An incremental
    one names what has changed since the last (by `hint`, the name of a DateTimeField, and `overlap`
    before), by (hint, primary key): a row that changes meanwhile is named by the next listing.
    Raises InvalidDeclaration if an incremental listing has no hint to go by.
    """
    read = Reading(
        key=key, hint=hint, kwargs=kwargs, enabled=enabled, labels=labels, description=description
    )
    by_hint = not listing.is_full
    if by_hint and hint is None:
        raise InvalidDeclaration(
            f"Source {listing.place.source.name!r} cannot be listed incrementally without a hint; "
            "name the field that says when a row has changed, or drop incremental="
        )
    rows = queryset.order_by("pk")
    if by_hint:
        rows = queryset.filter(**{f"{hint}__lte": listing.began_at}).order_by(hint or "", "pk")
        if listing.since is not None:
            rows = rows.filter(**{f"{hint}__gt": listing.since - overlap})
    token = listing.token
    while True:
        page = list(_after(rows, token, hint if by_hint else None)[: listing.page_size])
        if not page:
            return
        items: list[Named] = []
        for row in page:
            item = named_or_unread(read, row, f"row {row.pk}")
            if isinstance(item, Named):
                items.append(item)
            else:
                yield item
        last = page[-1]
        token = {"pk": str(last.pk)}
        if by_hint:
            token["hint"] = getattr(last, hint or "").isoformat()
        yield Page(items, token)


def _after(rows: QuerySet[Any], token: Any, hint: str | None) -> QuerySet[Any]:
    if token is None:
        return rows
    if hint is None:
        return rows.filter(pk__gt=token["pk"])
    at = as_time(token["hint"])
    return rows.filter(Q(**{f"{hint}__gt": at}) | Q(**{hint: at}, pk__gt=token["pk"]))
