"""Compare two scenarios on the same customers, replication by replication."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.engine.preparation import check_replications, common_trace, plan_run, prepare
from sim.engine.run import EngineName
from sim.results.evaluation import flags_of, load_factors_of, summary_of
from sim.results.flags import Flag
from sim.results.intervals import Estimate, paired_difference_interval
from sim.results.tables import ALL
from sim.simulation import Progress, execute, share_of
from sim.specs.resolved import Scenario


@dataclass(frozen=True)
class Comparison:
    """Two scenarios on the same requests, replication by replication."""

    names: tuple[str, str]
    """Names of the two scenarios."""

    summaries: tuple[list[pd.DataFrame], list[pd.DataFrame]]
    """Summary of each replication of each scenario."""

    flags: tuple[list[Flag], list[Flag]]
    """Reasons not to trust one scenario or the other, from all replications."""

    def values(self, metric: str, class_name: str = ALL, pool: str = ALL) -> pd.DataFrame:
        """Return a metric of both scenarios, one row a replication.

        Parameters
        ----------
        metric : str
            A metric of the summary; a quantile is written inside its name, as in `ttft_p99_s`.
        class_name, pool : str
            Traffic class or pool; `all` for everything.

        Raises
        ------
        ValueError
            No such metric, class or pool in the summaries.

        """
        columns = [
            [_metric_value(summary, metric, class_name, pool) for summary in summaries] for summaries in self.summaries
        ]
        return pd.DataFrame(dict(zip(self.names, columns, strict=True))).rename_axis("replication")

    def difference(self, metric: str, class_name: str = ALL, pool: str = ALL, confidence: float = 0.95) -> Estimate:
        """Return second minus first, with the interval of paired differences (common random numbers).

        Raises
        ------
        ValueError
            As `values`.

        """
        values = self.values(metric, class_name, pool)
        return paired_difference_interval(values.iloc[:, 1].to_numpy(), values.iloc[:, 0].to_numpy(), confidence)

    def _repr_html_(self) -> str:
        rows = [
            {"metric": metric, **self.values(metric).mean().to_dict(), "difference": estimate.value,
             "low": estimate.low, "high": estimate.high}
            for metric in ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "e2e_p50_s", "usd_per_million_tokens")
            for estimate in [self.difference(metric)]
        ]  # fmt: skip
        table = pd.DataFrame(rows).to_html(index=False, border=0, float_format="{:.4g}".format)
        listed = "".join(
            f"<li>{html.escape(f'{name}: {flag.name}, {flag.scope}: {flag.message}')}</li>"
            for name, flags in zip(self.names, self.flags, strict=True)
            for flag in flags
        )
        return f"{table}<ul>{listed}</ul>" if listed else str(table)


def compare(
    first: Scenario,
    second: Scenario,
    replications: int = 10,
    engine: EngineName = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Simulate two scenarios on the same requests.

    Parameters
    ----------
    first, second : Scenario
        Scenarios without alternatives; where their traffic and seed agree, they meet the same customers.
    replications : int
        Independent repetitions, at least 2.
    engine : str
        `auto`, `simpy` or `compiled`.
    progress : callable, optional
        Told what is running and how far it is.

    Raises
    ------
    InputError
        Bad input.
    ValueError
        Fewer than two replications.

    """
    if replications < 2:
        raise ValueError(f"a paired comparison needs at least 2 replications, not {replications}")
    prepared = prepare([*first.variants(), *second.variants()])
    if len(prepared) != 2:
        raise ValueError("compare takes two scenarios without alternatives; simulate runs alternatives side by side")
    check_replications([each.scenario for each in prepared], replications)
    summaries: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    flags: tuple[dict[tuple[str, str], Flag], dict[tuple[str, str], Flag]] = ({}, {})
    for number in range(replications):
        for side, each in enumerate(prepared):
            plan = plan_run(each, common_trace([each], number), number)
            told = share_of(progress, each, 2 * number + side, 2 * replications)
            single = [execute(each, number, plan, engine, None, told)]
            factors = load_factors_of(single)
            flags[side].update({(flag.name, flag.scope): flag for flag in flags_of(single, factors)})
            summaries[side].append(summary_of(single, [], factors))
    names = (prepared[0].scenario.scenario_id, prepared[1].scenario.scenario_id)
    if names[0] == names[1]:
        names = (f"{names[0]} (first)", f"{names[1]} (second)")
    return Comparison(names, summaries, (list(flags[0].values()), list(flags[1].values())))


def _metric_value(summary: pd.DataFrame, metric: str, class_name: str, pool: str) -> float:
    match = re.fullmatch(r"(ttft|tpot|e2e)_(?:p(\d+(?:\.\d+)?)|mean)_s", metric)
    name = f"{match.group(1)}_s" if match else metric
    quantile = float(match.group(2)) / 100 if match and match.group(2) else None
    rows = summary[(summary["metric"] == name) & (summary["class"] == class_name) & (summary["pool"] == pool)]
    rows = rows[rows["quantile"].isna()] if quantile is None else rows[np.isclose(rows["quantile"], quantile)]
    if len(rows) != 1:
        known = sorted(set(summary["metric"].astype(str)))
        raise ValueError(f"no metric {metric!r} for class {class_name!r} and pool {pool!r}; known: {', '.join(known)}")
    return float(rows["value"].iloc[0])
