"""Whether an optimisation does something else to the RLLM of a pair than to its LLM: a ratio of ratios."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .comparison import RATES, Rules
from .intervals import Estimate, from_log
from .request_metrics import CONDITION
from .verdicts import COLUMNS as JUDGED
from .verdicts import judged

KEYS = ["experiment", "engine", "pair", "quantization", "setup", "against", *CONDITION]
ROLES = ("llm", "rllm")
COLUMNS = [*(f"{role}_change" for role in ROLES), "interaction", "interaction_low", "interaction_high", "df"]


def interactions(comparison: pd.DataFrame, pairs: Mapping[str, Mapping[str, str]], rules: Rules) -> pd.DataFrame:
    """One row an optimisation, condition, metric and pair.

    Columns: KEYS, derived_from (see `comparison.compare`), `metric`; llm_change and rllm_change: each model's change
    against its baseline, a difference for RATES, a ratio for others; interaction: the RLLM's change - the LLM's, or /
    it, with its 95 % interval; df; `verdicts.COLUMNS`; `invalid`: why either change is. The degrees of freedom are the
    smaller ones of the two changes, which share the noise of their engine where it is pooled over both models.

    Args:
        comparison: rows of `comparison.compare` against the baseline, of all models of an experiment.
        pairs: pair -> role -> model.
        rules: that the comparisons were made by.
    """
    judgeable = comparison[comparison["error"].notna()]
    rows = []
    for pair, models in pairs.items():
        if not all(role in models for role in ROLES):
            continue
        merge = [*(name for name in KEYS if name != "pair"), "metric"]
        sides = [judgeable[judgeable["model"] == models[role]] for role in ROLES]
        both = sides[0].merge(sides[1], on=merge, suffixes=("_llm", "_rllm"))
        for row in both.to_dict("records"):
            difference = row["metric"] in RATES
            changes = [row[f"{'difference' if difference else 'ratio'}_{role}"] for role in ROLES]
            on_scale = changes if difference else [float(np.log(change)) for change in changes]
            error = float(np.hypot(row["error_llm"], row["error_rllm"]))
            effect = Estimate(on_scale[1] - on_scale[0], error, min(row["df_llm"], row["df_rllm"]))
            found = effect.interval() if difference else from_log(effect)
            reasons = [row[f"invalid_{role}"] for role in ROLES if row[f"invalid_{role}"]]
            rows.append(
                {
                    **{name: row[name] for name in merge},
                    "pair": pair,
                    "derived_from": row["derived_from_rllm"],
                    **dict(zip(COLUMNS, [*changes, *found, effect.df], strict=True)),
                    **judged(effect, rules.margin(row["metric"])),
                    "invalid": "; ".join(dict.fromkeys(reasons)) or None,
                }
            )
    return pd.DataFrame(rows, columns=[*KEYS, "derived_from", "metric", *COLUMNS, *JUDGED, "invalid"])
