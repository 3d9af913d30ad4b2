"""What is wrong with one declaration, so that the others can go on."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.registry import DeclaredIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`name` is the job's, or "" if a whole module cannot be read and its jobs are unknown."""

    text: str
    declared_in: DeclaredIn
    name: str = ""

    def __str__(self) -> str:
        return self.text
