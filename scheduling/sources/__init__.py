"""Sources: enumerators of resources, declared in code with `@source`, and ready-made ones.

Importing this package needs no Django settings; the enumerators load Django when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from scheduling.sources.declared import SourceDeclaration, source, sources
from scheduling.sources.reading import from_generator
from scheduling.sources.values import Named, Page, Unread

if TYPE_CHECKING:
    from scheduling.sources.files import from_csv, from_json_lines
    from scheduling.sources.pages import from_pages
    from scheduling.sources.progress import Listing
    from scheduling.sources.querysets import from_queryset

__all__ = [
    "Listing",
    "Named",
    "Page",
    "SourceDeclaration",
    "Unread",
    "from_csv",
    "from_generator",
    "from_json_lines",
    "from_pages",
    "from_queryset",
    "source",
    "sources",
]

_LAZY = {
    "Listing": "scheduling.sources.progress",
    "from_csv": "scheduling.sources.files",
    "from_json_lines": "scheduling.sources.files",
    "from_pages": "scheduling.sources.pages",
    "from_queryset": "scheduling.sources.querysets",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
