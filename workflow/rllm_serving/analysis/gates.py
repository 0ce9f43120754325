"""The gates of a point: numbers that must not be above a limit. Plain data: the dry run needs no package for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ValidityGate:
    """A number of a point that must not be above a limit.

    Attributes:
        label: what people call it.
        text: how it is computed.
        factor: display units per stored unit.
        unit: display unit.
    """

    label: str
    text: str
    factor: float
    unit: str

    def format(self, value: float) -> str:
        """The value as people read it."""
        return f"{value * self.factor:.3g} {self.unit}"


FAILED = "failed_rate"
GATES = {
    "loop_lag_p99_s": ValidityGate("Loop lag p99", "99 % quantile of how late the client's event loop was", 1e3, "ms"),
    "client_cpu_utilization": ValidityGate(
        "Client CPU", "CPU time of the client / wall time, a share of one core", 100, "% of a core"
    ),
    "schedule_lag_p99_s": ValidityGate("Sent late p99", "99 % quantile of sent - scheduled", 1e3, "ms"),
    "missing_samples_rate": ValidityGate(
        "Samples missing", "time that no sample of the server tells of / duration", 100, "%"
    ),
    "usage_mismatch_rate": ValidityGate(
        "Usage off", "|token ids that came in streams - tokens that the usage tells| / the latter", 100, "%"
    ),
    "reasoning_mismatch_rate": ValidityGate(
        "Thinking off", "|thinking tokens by the chunks of the streams - as counted| / the larger of both", 100, "%"
    ),
    "counter_mismatch_rate": ValidityGate(
        "Counter off", "|growth of the server's token counter - sum of usage| / the latter", 100, "%"
    ),
    "undecoded_rate": ValidityGate(
        "Not decoded", "answers with characters that only a vocabulary has (Ġ, Ċ, ▁) / answers", 100, "%"
    ),
    "others_cpu_utilization": ValidityGate(
        "CPU of others", "CPU time of others than server and client / time of the cores, mean of samples", 100, "%"
    ),
    "steal_rate": ValidityGate(
        "CPU stolen", "CPU time that the hypervisor took / time of the cores, mean of samples", 100, "%"
    ),
    "throttled_rate": ValidityGate(
        "GPU slowed down", "samples at which a GPU was slowed down for heat or power / samples", 100, "%"
    ),
    "foreign_processes": ValidityGate(
        "Others on GPU", "most processes on the server's GPUs that are not the server's", 1, "processes"
    ),
    FAILED: ValidityGate("Failed", "requests that failed / asked", 100, "%"),
}
"""Name (in run.json and, without FAILED, in the config's `measurement.gates`) of each number."""
CLIENT_GATES = {name: gate for name, gate in GATES.items() if name != FAILED}
"""All but FAILED, which is a metric of requests and has its limit elsewhere, `measurement.max_failed_rate`."""
OTHERWISE = "served otherwise than asked"
"""Start of the reason of points whose server ran with other options than those that the study compares."""
