"""The engine broken on purpose, one rule at a time: for the time of a simulation, in this process only.

A mutant that no invariant notices means that something is missing among the invariants, or in the world. A module holds
those that break one part of the engine.
"""

from simulation.mutants import compensation, healing, holding, journal, lease, lists, looking, order, people
from simulation.mutants.mutant import MUTANTS, applied

__all__ = [
    "MUTANTS", "applied", "compensation", "healing", "holding", "journal", "lease", "lists", "looking", "order",
    "people",
]  # fmt: skip
