from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim.planning.program import Market


def make_market(**changes: Any) -> Market:
    """Two accelerators, one stream, three months, two hours; everything can be had."""
    chips, streams, months, hours, terms = 2, 1, 3, 2, 2
    demand = np.array([[[4.0, 2.0], [6.0, 3.0], [9.0, 4.0]]])
    purchase = np.array([[100.0] * months, [150.0] * months])
    age = np.maximum(0, np.arange(months + 1)[None, :] + 1 - np.arange(months + 1)[:, None])
    resale = purchase[:, :1, None] * 0.8 * 0.9 ** age[None]
    rent = np.full((chips, terms, months), 20.0)
    rent[:, 1] = 12.0
    values: dict[str, Any] = {
        "accelerators": ("old", "new"),
        "streams": ("chat",),
        "term_months": np.array([1, 3]),
        "demand_per_s": demand,
        "capacity_per_s": np.full((chips, streams, months), 1.0) * np.array([2.0, 5.0])[:, None, None],
        "replica_accelerators": np.ones((chips, streams), np.int64),
        "system_accelerators": np.array([1, 1]),
        "systems_at_start": np.array([0, 0]),
        "purchase_usd": purchase,
        "purchase_limit": np.array([[3, 3, 3], [0, 2, 2]]),
        "running_usd": np.full((chips, months), 3.0),
        "resale_usd": resale,
        "rent_usd": rent,
        "rent_unit": np.array([1, 1]),
        "rent_limit": np.array([[2.0] * months, [1.0] * months]),
        "rent_tail_usd": np.zeros((chips, terms, months)),
        "power_w": np.array([1.0, 2.0]),
        "site_power_w": np.full(months, np.inf),
        "budget_year": np.zeros(months, np.int64),
        "budget_usd": np.array([np.inf]),
        "api_usd": np.full((streams, months, hours), 9.0),
        "api_limit_per_s": np.full((streams, months), np.inf),
        "discount": 0.99 ** np.arange(months + 1),
    }
    return Market(**(values | changes))


@pytest.fixture
def market() -> Callable[..., Market]:
    return make_market
