"""Ways through the rules that tie jobs to jobs. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

N = TypeVar("N", bound=Hashable)


def edges_of(pairs: Iterable[tuple[N, N]]) -> dict[N, set[N]]:
    edges: dict[N, set[N]] = {}
    for start, end in pairs:
        edges.setdefault(start, set()).add(end)
    return edges


def reachable(edges: Mapping[N, set[N]], start: N) -> set[N]:
    """Everything that a way leads to from `start`, itself not included unless in a circle."""
    found: set[N] = set()
    waiting = [start]
    while waiting:
        new = edges.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(new)
    return found


def path_between(edges: Mapping[str, set[str]], start: str, end: str) -> list[str]:
    """Give the names on a way from `start` to `end`, both included; empty if there is none."""
    came_from: dict[str, str | None] = {start: None}
    waiting = [start]
    while waiting:
        name = waiting.pop(0)
        if name == end:
            path = []
            step: str | None = name
            while step is not None:
                path.append(step)
                step = came_from[step]
            return path[::-1]
        for follower in sorted(edges.get(name, ())):
            if follower not in came_from:
                came_from[follower] = name
                waiting.append(follower)
    return []
