"""A virtual year of looking after an inventory, decided by the rules of every day. Pure."""

from __future__ import annotations

from scheduling.simulation.comparing import compare
from scheduling.simulation.engine import simulate
from scheduling.simulation.inventory import Synthetic, Thing
from scheduling.simulation.measures import Result
from scheduling.simulation.scenario import MIX, InvalidScenario, Scenario, alone, each_alone

__all__ = (
    "MIX",
    "InvalidScenario",
    "Result",
    "Scenario",
    "Synthetic",
    "Thing",
    "alone",
    "compare",
    "each_alone",
    "simulate",
)
