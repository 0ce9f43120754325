"""Claims in short: a verdict for each pair and engine, from the primary hypotheses; and the files that tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from .decisions import FAILS, HOLDS, NOT_TESTED, UNDECIDED


def verdict_of(rows: pd.DataFrame) -> str:
    """Return the verdict of a claim on one pair and engine, from rows of its primary hypotheses.

    It does not hold where one of them does not; it holds where all do; it is not tested where none is; else undecided.
    """
    found = set(rows["verdict"])
    if FAILS in found:
        return FAILS
    if found <= {NOT_TESTED}:
        return NOT_TESTED
    return HOLDS if found == {HOLDS} else UNDECIDED


def sentence(rows: pd.DataFrame) -> str:
    """Return what led to `verdict_of`, in a sentence."""
    held = int((rows["verdict"] == HOLDS).sum())
    parts = [f"{held} of {len(rows)} primary hypotheses {'holds' if held == 1 else 'hold'}"]
    for verdict in (FAILS, UNDECIDED, NOT_TESTED):
        chosen = rows[rows["verdict"] == verdict]
        if len(chosen):
            parts.append(f"{verdict}: " + ", ".join(_named(row) for row in chosen.to_dict("records")))
    return "; ".join(parts)


def _named(row: Mapping[Any, Any]) -> str:
    name = " ".join(part for part in (row["hypothesis"], row["candidate"]) if isinstance(part, str) and part)
    if pd.notna(row["needed"]):
        return f"{name} (would need about {int(row['needed']):,} {row['units']})"
    return f"{name} ({row['reason']})" if isinstance(row["reason"], str) else name


def claim_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row a claim, pair and engine: claim, title, pair, engine, verdict, says.

    Args:
        rows: as `evaluation.evaluate` returns them.
    """
    keys = ["claim", "title", "pair", "engine"]
    groups = rows[rows["primary"].astype(bool)].groupby(keys, sort=False)
    found = [(*key, verdict_of(part), sentence(part)) for key, part in groups]
    return pd.DataFrame(found, columns=[*keys, "verdict", "says"])


def as_json(
    rows: pd.DataFrame,
    claims: Mapping[str, Mapping[str, Any]],
    outputs: Mapping[str, Mapping[str, list[str]]],
    invalid_points: int = 0,
) -> dict[str, Any]:
    """Return all of it as plain data: each claim with its verdicts, hypotheses and where the evidence is.

    Args:
        rows: as `evaluation.evaluate` returns them.
        claims: id -> claim.
        outputs: experiment -> "figures" and "tables" -> names of those that it has.
        invalid_points: of all experiments, left out of the claims.
    """
    verdicts = claim_verdicts(rows)
    found = []
    for name, claim in claims.items():
        own = rows[rows["claim"] == name]
        experiments = [str(one) for one in own["experiment"].dropna().unique()]
        files = {
            kind: [
                f"results/{kind}/{experiment}-{output}.{'png' if kind == 'figures' else 'csv'}"
                for experiment in experiments
                for output in claim[kind]
                if output in outputs[experiment][kind]
            ]
            for kind in ("figures", "tables")
        }
        of_claim = verdicts[verdicts["claim"] == name].drop(columns=["claim", "title"])
        found.append(
            {
                "id": name,
                "title": claim["title"],
                "claim": claim["claim"],
                "paper": claim.get("paper"),
                "verdicts": of_claim.to_dict("records"),
                "hypotheses": plain_rows(own),
                "experiments": experiments,
                **files,
                "command": f"snakemake --cores all --resources gpu=1 {' '.join(experiments)} --forcerun measure"
                if experiments
                else None,
            }
        )
    tested = rows["primary"].astype(bool) & rows["p"].notna()
    return {"claims": found, "primaries": int(tested.sum()), "level": 0.95, "invalid_points": invalid_points}


def plain_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain data; missing is None."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()} for row in rows.to_dict("records")
    ]


def as_markdown(rows: pd.DataFrame, claims: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of verdicts, and one of each claim's primary hypotheses."""
    verdicts = claim_verdicts(rows)
    if verdicts.empty:
        return "# Claims\n\nThe study has no pair of an LLM and an RLLM: no claim is tested.\n"
    columns = verdicts["pair"] + ", " + verdicts["engine"]
    wide = verdicts.assign(on=columns).pivot(index="claim", columns="on", values="verdict")
    wide = wide.loc[[name for name in claims if name in wide.index]]
    wide.insert(0, "title", [claims[name]["title"] for name in wide.index])
    lines = ["# Claims", "", wide.reset_index().to_markdown(index=False), ""]
    lines += [
        "95 % intervals; verdicts after Holm over the primary hypotheses. docs/claims.md says how each is computed.",
        "",
    ]
    for name, claim in claims.items():
        own = rows[(rows["claim"] == name) & rows["primary"]]
        lines += [f"## {name} {claim['title']}", "", " ".join(claim["claim"].split()), ""]
        if "paper" in claim:
            lines += [f"Published: {claim['paper']}.", ""]
        lines += [_table(own), ""]
    return "\n".join(lines)


def _table(rows: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "hypothesis": rows["says"],
            "pair": rows["pair"],
            "engine": rows["engine"],
            "candidate": rows["candidate"].fillna(""),
            "effect": [effect_text(row) for row in rows.to_dict("records")],
            "verdict": rows["verdict"],
            "why": [_why(row) for row in rows.to_dict("records")],
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True)


def effect_text(row: Mapping[Any, Any]) -> str:
    """Return an effect with its interval: x1.32 [1.20, 1.45], or +4.2 [1.0, 7.4] points; "" where there is none."""
    if pd.isna(row["effect"]):
        return ""
    is_ratio = row["scale"] == "ratio"
    factor, digits = (1.0, 2) if is_ratio else (100.0, 1)
    numbers = [row[name] * factor for name in ("effect", "effect_low", "effect_high") if not pd.isna(row[name])]
    value, *ends = (f"{number:.{digits}f}" for number in numbers)
    text = f"x{value}" if is_ratio else f"{numbers[0]:+.{digits}f}"
    interval = f" [{', '.join(ends)}]" if ends else ""
    return text + interval + ("" if is_ratio else " points")


def margin_text(row: Mapping[Any, Any]) -> str:
    """Return a margin on the scale of its effect: 5 % of a ratio, or 3 points; "" where there is none."""
    if pd.isna(row["margin"]):
        return ""
    return f"{100 * row['margin']:g} {'%' if row['scale'] == 'ratio' else 'points'}"


def _why(row: Mapping[Any, Any]) -> str:
    if pd.notna(row["needed"]):
        reason = f"would need about {int(row['needed']):,} {row['units']}"
    else:
        reason = row["reason"] if isinstance(row["reason"], str) else ""
    return "; ".join(filter(None, [reason, derived_text(row)]))


def derived_text(row: Mapping[Any, Any]) -> str:
    """Say which budgets of a hypothesis were not measured; "" where all were."""
    derived = row.get("derived")
    return f"derived budgets (tokens): {derived}" if isinstance(derived, str) and derived else ""
