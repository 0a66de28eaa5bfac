"""What a token, a request, a document, an agent's task and a user's month cost, with idle capacity in the open.

Money in is money out: what the fleet costs is split between prompt and answer tokens and nothing is left over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from sim.planning.cost import TOKENS_PER_MILLION

SECONDS_PER_HOUR = 3600.0
DAYS_PER_MONTH = 365.25 / 12.0


@dataclass(frozen=True)
class TokenCosts:
    """What tokens cost on a fleet at a load; the whole cost is in them, idle capacity included."""

    usd_per_million_input_tokens: float
    """Prompt tokens, cached ones included [USD per million]."""

    usd_per_million_output_tokens: float
    """Generated tokens [USD per million]."""

    usd_per_million_tokens: float
    """Both together [USD per million]."""

    cost_usd_per_hour: float
    """What the fleet costs [USD/h]."""

    stranded_usd_per_hour: float
    """Part of that which is paid for capacity beyond the tokens served [USD/h]; the prices above contain it."""

    prefill_share: float
    """Part of the cost that prompts bear [1]."""

    @property
    def stranded_usd_per_million_tokens(self) -> float:
        """Return how much of the price of a million tokens is paid for idle capacity [USD per million]."""
        return self.usd_per_million_tokens * self.stranded_usd_per_hour / self.cost_usd_per_hour

    def _repr_html_(self) -> str:
        table = pd.DataFrame({"value": self.__dict__ | {"stranded_usd_per_million_tokens":
                                                        self.stranded_usd_per_million_tokens}})  # fmt: skip
        return str(table.to_html(border=0, float_format="{:.4g}".format))


def token_costs(
    cost_usd_per_hour: float,
    input_tokens_per_s: float,
    output_tokens_per_s: float,
    prefill_share: float,
    capacity_used: float,
) -> TokenCosts:
    """Return what tokens cost.

        input = cost x share / input tokens,  output = cost x (1 - share) / output tokens
        stranded = cost x (1 - capacity used)

    Parameters
    ----------
    cost_usd_per_hour : float
        What the fleet costs, busy or idle [USD/h].
    input_tokens_per_s, output_tokens_per_s : float
        Tokens of the requests served, more than 0 [tokens/s].
    prefill_share : float
        Part that prompts bear, as of `prefill_share_of_time` [1].
    capacity_used : float
        Tokens served over those that the fleet would serve if its queues never emptied [1]. Not the busy time: one
        request keeps a replica busy.

    Raises
    ------
    ValueError
        No tokens, or a share or use of capacity outside [0, 1].

    """
    if not (input_tokens_per_s > 0.0 and output_tokens_per_s > 0.0):
        raise ValueError("no tokens were served: there is nothing to divide the cost by")
    if not (0.0 <= prefill_share <= 1.0 and 0.0 <= capacity_used <= 1.0):
        raise ValueError(f"share and use of capacity lie in [0, 1], got {prefill_share} and {capacity_used}")
    per_million = cost_usd_per_hour / SECONDS_PER_HOUR * TOKENS_PER_MILLION
    return TokenCosts(
        usd_per_million_input_tokens=per_million * prefill_share / input_tokens_per_s,
        usd_per_million_output_tokens=per_million * (1.0 - prefill_share) / output_tokens_per_s,
        usd_per_million_tokens=per_million / (input_tokens_per_s + output_tokens_per_s),
        cost_usd_per_hour=cost_usd_per_hour,
        stranded_usd_per_hour=cost_usd_per_hour * (1.0 - capacity_used),
        prefill_share=prefill_share,
    )


def request_usd(costs: TokenCosts, prompt_tokens: float, output_tokens: float) -> float:
    """Return what a request costs; a document is one request of a batch class [USD].

        prompt x input price + answer x output price

    Parameters
    ----------
    costs : TokenCosts
        Prices of tokens.
    prompt_tokens, output_tokens : float
        Tokens of the request, or means over requests: the cost is linear in both.

    """
    spent = prompt_tokens * costs.usd_per_million_input_tokens + output_tokens * costs.usd_per_million_output_tokens
    return spent / TOKENS_PER_MILLION


def task_usd(costs: TokenCosts, calls: Iterable[tuple[float, float]]) -> float:
    """Return what an agent's task costs: the sum over its calls of (prompt, answer) tokens [USD]."""
    return sum(request_usd(costs, prompt, output) for prompt, output in calls)


def user_month_usd(
    costs: TokenCosts, requests_per_day: float, prompt_tokens: float, output_tokens: float,
    active_days: float = DAYS_PER_MONTH,
) -> float:  # fmt: skip
    """Return what a user costs a month: active days x requests a day x cost of a request [USD/month]."""
    return active_days * requests_per_day * request_usd(costs, prompt_tokens, output_tokens)
