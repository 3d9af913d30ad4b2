"""Pages of a search: stable, whatever is inserted meanwhile; the token of the next is opaque."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F, Model, Q, QuerySet
from django.db.models.expressions import OrderBy

from scheduling.errors import InvalidRequest

M = TypeVar("M", bound=Model)

MOST_ROWS = 10_000
ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[M]):
    """The rows of a page, in order. `next`: the token of the page after it; None: it is the last.

    Rows that are inserted or removed between two pages lead to no other row being given twice or
    left out. A row whose place in the order changes meanwhile is given where it then stands.
    """

    rows: list[M]
    next: str | None = None


def page(
    rows: QuerySet[M],
    *,
    order: str,
    orders: Mapping[str, str],
    limit: int,
    after: str | None,
) -> Page[M]:
    """Give a page of `rows` by `order`: one of `orders` (name -> path), a leading - descending.

    Rows without a value there come last; those with equal ones by their primary key. Raises
    InvalidRequest for an order, a limit or a token that is none.
    """
    field = order.removeprefix("-")
    if field not in orders:
        raise InvalidRequest(f"The order is {order!r}; known are {', '.join(orders)}")
    require_limit(limit)
    descends = order.startswith("-")
    path = orders[field]
    if after is not None:
        value, pk = _read(after, order, rows, path)
        rows = rows.filter(_behind(path, value, pk, descends=descends))
    # One more than asked for: whether there is a next page is known without asking again.
    found = list(rows.order_by(_ordering(path, descends=descends), "pk")[: limit + 1])
    if len(found) <= limit:
        return Page(rows=found)
    found.pop()
    return Page(rows=found, next=_token(order, _value(found[-1], path), found[-1].pk))


def require_limit(limit: int) -> int:
    """Raises InvalidRequest."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_ROWS:
        raise InvalidRequest(f"The limit is {limit!r}; give a number from 1 to {MOST_ROWS}")
    return limit


def _ordering(path: str, *, descends: bool) -> OrderBy:
    return F(path).desc(nulls_last=True) if descends else F(path).asc(nulls_last=True)


def _behind(path: str, value: Any, pk: Any, *, descends: bool) -> Q:
    if value is None:
        return Q(**{f"{path}__isnull": True}, pk__gt=pk)
    beyond = Q(**{f"{path}__{'lt' if descends else 'gt'}": value})
    return beyond | Q(**{path: value}, pk__gt=pk) | Q(**{f"{path}__isnull": True})


def _value(row: Model, path: str) -> Any:
    value: Any = row
    for name in path.split("__"):
        value = getattr(value, name)
    return value


def _token(order: str, value: Any, pk: Any) -> str:
    text = json.dumps([order, value, pk], cls=_Exact, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class _Exact(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        # Django's own keeps milliseconds only, and rows would be left out.
        return o.isoformat() if isinstance(o, datetime) else super().default(o)


def _read(token: str, order: str, rows: QuerySet[M], path: str) -> tuple[Any, Any]:
    """Give the value and the primary key after which a page begins. Raises InvalidRequest."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        of_order, value, pk = json.loads(text)
        value = _column(rows.model, path).to_python(value)
        pk = rows.model._meta.pk.to_python(pk)
        if pk is None:
            raise ValueError(token)
    except (ValueError, TypeError, ValidationError) as error:
        raise InvalidRequest(
            f"The token {token!r} is none of this search; give `next` of the page before, or None "
            "to begin anew"
        ) from error
    if of_order != order:
        raise InvalidRequest(
            f"The token {token!r} is of the order {of_order!r}, and this search has {order!r}; "
            "go on in the order in which it was begun"
        )
    return value, pk


def _column(model: type[Model], path: str) -> Any:
    name, _, rest = path.partition("__")
    field: Any = model._meta.get_field(name)
    return _column(field.related_model, rest) if rest else field
