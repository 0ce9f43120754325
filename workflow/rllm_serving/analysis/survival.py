"""Times until something happens, where some requests ended before it did: Kaplan-Meier (1958).

A request that used up its budget while thinking showed no visible token until it ended: its time to the first visible
token is at least that long. It is censored there: left out, the slowest would vanish from the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from .intervals import Array


def kaplan_meier(time: Array, until: Array) -> tuple[Array, Array]:
    """Times at which something happened, ascending, and the share of requests to which it had by then.

    Args:
        time: shape (n,), s until it happened; NaN where it did not.
        until: shape (n,), s until the request was over; used where `time` is NaN. Rows with neither are left out.
    """
    happened = np.isfinite(time)
    censored = ~happened & np.isfinite(until)
    if not happened.any():
        return np.empty(0), np.empty(0)
    sample = stats.CensoredData(uncensored=time[happened], right=until[censored])
    found = stats.ecdf(sample).cdf
    # Points of the function at which only somebody was censored are no steps.
    steps = np.diff(found.probabilities, prepend=0.0) > 0
    return found.quantiles[steps], found.probabilities[steps]


def quantiles(time: Array, until: Array, shares: Sequence[float]) -> list[float]:
    """Return the smallest times by which at least these shares had happened; NaN where it happened to fewer."""
    times, upto = kaplan_meier(time, until)
    places = np.searchsorted(upto, np.asarray(shares) * (1 - 1e-9))
    return [float(times[place]) if place < len(times) else np.nan for place in places]


def observed_up_to(time: Array, until: Array) -> float:
    """Return the longest time that is known of a request (s), happened or not: the mean's latest horizon."""
    known = np.where(np.isfinite(time), time, until)
    return float(np.nanmax(known)) if np.isfinite(known).any() else np.nan


def restricted_mean(time: Array, until: Array, horizon: float) -> float:
    """Mean of min(time, horizon): the area above the Kaplan-Meier curve up to the horizon (s).

    NaN where somebody still waited when the last one was observed, and the horizon is later: what happened then is
    unknown.
    """
    times, upto = kaplan_meier(time, until)
    everybody = len(upto) > 0 and upto[-1] > 1 - 1e-9
    if not everybody and not horizon <= observed_up_to(time, until) * (1 + 1e-9):
        return np.nan
    inside = times < horizon
    edges = np.concatenate([[0.0], times[inside], [horizon]])
    waiting = 1 - np.concatenate([[0.0], upto[inside]])
    return float((np.diff(edges) * waiting).sum())
