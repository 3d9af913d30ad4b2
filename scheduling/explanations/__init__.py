"""The ledger in sentences: `explanation` of a row, given what stands around it."""

from __future__ import annotations

from scheduling.explanations.rows import explanation
from scheduling.explanations.surroundings import NOTHING_ELSE, Surroundings, surroundings_of
from scheduling.explanations.waiting import beats
from scheduling.explanations.words import ago, fires_in_words, rounded, stamp

__all__ = [
    "NOTHING_ELSE",
    "Surroundings",
    "ago",
    "beats",
    "explanation",
    "fires_in_words",
    "rounded",
    "stamp",
    "surroundings_of",
]
