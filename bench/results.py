"""Figures of all rounds, and what follows from them. Pure: no processes, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from bench.scenarios import FAST, RIVALS, Scenario

Figures = dict[str, float]
# Every other server is a rival.
OURS = ("tricorn", "control", "floor")


def is_ours(server: str) -> bool:
    """Is it Tricorn in one of its shapes, or its floor?"""
    return server in OURS or server.startswith("tricorn ")


@dataclass
class Outcome:
    """One scenario: the rounds of each server, and why some have none."""

    scenario: Scenario
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    # Who leaves out a part of the work, and which.
    remiss: dict[str, str] = field(default_factory=dict)
    # Where, when and with what it was measured.
    origin: dict[str, str] = field(default_factory=dict)

    def middle(self, server: str, figure: str) -> float | None:
        """Median of a figure over the rounds; None where it was not measured."""
        values = [figures[figure] for figures in self.rounds.get(server, []) if figure in figures]
        return median(values) if values else None

    def worst(self, server: str, figure: str) -> float | None:
        """Largest of a figure over the rounds; None where it was not measured."""
        return max(
            (figures[figure] for figures in self.rounds.get(server, []) if figure in figures), default=None
        )

    def ratios(self, server: str, figure: str = "cpu_us", base: str = "tricorn") -> list[float]:
        """Of each round: the server's figure divided by that of `base` in the same round."""
        pairs = zip(self.rounds.get(server, []), self.rounds.get(base, []), strict=False)
        return [
            theirs[figure] / ours[figure] for theirs, ours in pairs if figure in theirs and ours.get(figure)
        ]

    def ratio(self, server: str, figure: str = "cpu_us", base: str = "tricorn") -> float | None:
        ratios = self.ratios(server, figure, base)
        return median(ratios) if ratios else None

    def resolution(self) -> float | None:
        """How far the control is from 1 in the middle half of its rounds: smaller differences say nothing."""
        away = sorted(abs(ratio - 1) for ratio in self.ratios("control"))
        return away[len(away) * 3 // 4] if away else None


@dataclass(frozen=True)
class Verdict:
    about: str
    wanted: float
    # The rival that comes nearest, and its ratio.
    nearest: str
    ratio: float

    @property
    def reached(self) -> bool:
        return self.ratio >= self.wanted


def verdicts(outcome: Outcome) -> list[Verdict]:
    """Each target of the scenario beside what was measured; those nobody was measured for are left out.

    A rival that answered with errors, or leaves work out, does not count: that is not a way to be quick.
    """
    measured = {
        server: ratio
        for server in outcome.rounds
        if not is_ours(server)
        and server not in outcome.remiss
        and (ratio := outcome.ratio(server))
        and not outcome.middle(server, "errors")
    }
    found = []
    for about, wanted in outcome.scenario.targets.items():
        if about == RIVALS:
            names = list(measured)
        else:
            names = [name for name in measured if name in about.split(", ")]
            if about != FAST and about not in measured:
                continue
        if names:
            nearest = min(names, key=lambda name: measured[name])
            found.append(Verdict(about, wanted, nearest, measured[nearest]))
    return found
