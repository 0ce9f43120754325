"""What is known of a metric beside its values: name, unit, how people read it, definition, units of its interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

ENDS = ("", "_low", "_high")
"""Ends of the names of a metric's columns: its value, and both ends of its interval."""
Units = Literal["", "questions", "starts", "both"]


@dataclass(frozen=True)
class Metric:
    """A number of a point, a condition or a comparison: a column of a results file.

    Attributes:
        name: of its column.
        label: what people call it, without the unit.
        unit: of the column; "" for a share (0-1), a ratio or a text.
        definition: how it is computed.
        display_unit: of tables and figures.
        factor: display units per stored unit.
        units: what is drawn again and again for its 95 % interval, columns `{name}_low` and `{name}_high`: "questions"
            for what a model says, "starts" for times, rates and gauges, "both" for rates of correct answers; "" where
            there is no interval.
        linear: whether starts are averaged as they are; the logs of the others are.
    """

    name: str
    label: str
    unit: str
    definition: str
    display_unit: str = ""
    factor: float = 1.0
    units: Units = ""
    linear: bool = False

    @property
    def title(self) -> str:
        """Label and display unit, for the head of a column or an axis."""
        return f"{self.label} ({self.display_unit})" if self.display_unit else self.label

    def ratio(self) -> Metric:
        """Return the ratio of candidate to baseline of this metric."""
        definition = f"candidate / baseline: {self.definition}"
        return Metric(f"{self.name}_ratio", f"{self.label} ratio", "", definition, units=self.units or "starts")

    def interaction(self) -> Metric:
        """Return how much more this metric changed for the RLLM of a pair than for its LLM."""
        if self.name == "accuracy":
            return Metric(
                "accuracy_interaction", "Accuracy, RLLM - LLM", "", "change - change", "points", 100.0, "questions"
            )
        definition = f"change of the RLLM / change of the LLM: {self.definition}"
        return Metric(f"{self.name}_interaction", f"{self.label}, RLLM / LLM", "", definition, units="starts")

    def noise(self) -> Metric:
        """Return by how much this metric differs between starts of one server."""
        definition = "standard deviation of the log between starts of one server"
        return Metric(f"noise_{self.name}", self.label, "", definition, "%", 100.0)

    def statistic(self, statistic: str, units: Units) -> Metric:
        """Return a statistic ("mean", "max", "p50", ...) of this metric as one of its own."""
        label = f"{self.label} {'median' if statistic == 'p50' else statistic}"
        name, definition = f"{self.name}_{statistic}", f"{statistic}: {self.definition}"
        return replace(self, name=name, label=label, definition=definition, units=units)
