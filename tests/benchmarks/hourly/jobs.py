from __future__ import annotations

from scheduling import Every, job


@job(Every(hours=1, spread=True), keyed=True, batch=100)
def nothing() -> None:
    """Do nothing, so that all that is measured is ours."""
