"""Processes: profile, noise, tenants, jobs and batches keep their rates and have their stated burstiness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from sim.demand.dispersion import allan_dispersion, wandering_dispersion
from sim.demand.processes import (
    Streams,
    arrival_instants,
    past_instants,
    run_rates,
    tenant_shares,
    weibull_renewal_arrivals,
    weibull_shape,
)
from sim.demand.streams import stream
from sim.specs.arrivals import Arrivals, TenantArrivals

OURS = {"source": ["assumption"], "confidence": "assumption"}
WEEK = [float(1 + hour % 24) for hour in range(120)] + [0.5] * 48
TENANTS: dict[str, Any] = {
    "process": "tenants",
    "tenants": 40,
    "shares": {"largest": {1: 0.3, 5: 0.6, 20: 0.9}} | OURS,
    "gaps": "gamma",
    "cv": {"quantiles": {0: 0.8, 0.5: 1.5, 1: 4.0}} | OURS,
}


def sourced(value: object) -> dict[str, Any]:
    return {"value": value} | OURS


def wandering(sigma: float, seconds: float) -> dict[str, Any]:
    return {"sigma": sourced(sigma), "time_constant": sourced(f"{seconds} s")}


def described(**raw: Any) -> Arrivals:
    adapter: TypeAdapter[Arrivals] = TypeAdapter(Arrivals)
    return adapter.validate_python(raw)


def streams(seed: int) -> Streams:
    return lambda *names: stream(seed, *names)


def test_a_weekly_profile_begins_on_monday_and_repeats() -> None:
    arrivals = described(process="poisson", profile={"multipliers": WEEK} | OURS)
    edges_s, rates_per_s = run_rates(arrivals, 2.0, 14 * 86_400.0, 0.0, streams(1))
    mean = float(rates_per_s @ np.diff(edges_s)) / (14 * 86_400.0)
    assert mean == pytest.approx(2.0)
    assert rates_per_s[:168] == pytest.approx(2.0 * np.array(WEEK) / np.mean(WEEK))
    assert rates_per_s[168:336] == pytest.approx(rates_per_s[:168])


def test_a_time_zone_moves_the_profile() -> None:
    for zone, offset in (("UTC+3", 3), ("UTC-05:30", -5.5), ("UTC", 0)):
        there = described(process="poisson", profile={"multipliers": WEEK, "time_zone": zone} | OURS)
        here = described(process="poisson", profile={"multipliers": WEEK} | OURS)
        _, moved = run_rates(there, 2.0, 86_400.0, 30.0, streams(1))
        _, unmoved = run_rates(here, 2.0, 86_400.0, 30.0 + offset, streams(1))
        assert moved == pytest.approx(unmoved)


@pytest.mark.parametrize("zone", ["CET", "UTC+15", "UTC1", "UTC+1:75", "+1"])
def test_other_time_zones_are_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="fixed offset"):
        described(process="poisson", profile={"multipliers": WEEK, "time_zone": zone} | OURS)


def test_the_noise_has_mean_one_and_its_variance_and_memory() -> None:
    arrivals = described(process="poisson", rate_noise={"slow": wandering(0.3, 60.0)})
    edges_s, rates = run_rates(arrivals, 5.0, 600_000.0, 0.0, streams(3))
    assert np.diff(edges_s) == pytest.approx(2.5)
    half_width = float(4.0 * 5.0 * 0.3 * math.sqrt(2.0 * 60.0 / 600_000.0))
    assert half_width < 0.1
    assert rates.mean() == pytest.approx(5.0, abs=half_width)
    logs = np.log(rates)
    assert logs.std() == pytest.approx(0.3, rel=0.04)
    assert np.corrcoef(logs[:-24], logs[24:])[0, 1] == pytest.approx(math.exp(-1.0), abs=0.04)


def test_a_longer_run_and_another_rate_meet_the_same_noise() -> None:
    arrivals = described(process="poisson", rate_noise={"fast": wandering(0.2, 60.0), "slow": wandering(0.1, 7200.0)})
    _, short = run_rates(arrivals, 5.0, 3600.0, 0.0, streams(3))
    _, long = run_rates(arrivals, 15.0, 7200.0, 0.0, streams(3))
    assert long[: short.size] == pytest.approx(3.0 * short)


@pytest.mark.parametrize("window_s", [10.0, 60.0, 600.0])
def test_the_dispersion_of_the_counts_is_that_of_the_closed_form(window_s: float) -> None:
    parts = {"fast": (0.10, 60.0), "slow": (0.08, 7200.0)}
    arrivals = described(
        process="poisson", rate_noise={name: wandering(sigma, tau) for name, (sigma, tau) in parts.items()}
    )
    rate, measured = 20.0, []
    for seed in range(8):
        instants = arrival_instants(arrivals, rate, 100_000.0, 0.0, streams(seed))
        measured.append(allan_dispersion(instants, window_s, 100_000.0))
    expected = wandering_dispersion(rate, window_s, list(parts.values()))
    half_width = float(4.0 * np.std(measured, ddof=1) / math.sqrt(len(measured)))
    assert half_width < 0.35 * expected
    assert np.mean(measured) == pytest.approx(expected, abs=half_width + 0.01 * expected)


def test_weibull_shapes_have_their_cv() -> None:
    assert weibull_shape(1.0) == pytest.approx(1.0)
    for cv in (0.3, 3.0, 40.0):
        shape = weibull_shape(cv)
        assert math.sqrt(math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1) == pytest.approx(cv, rel=1e-6)


def test_weibull_renewals_are_stationary_and_have_their_gaps() -> None:
    counts = [weibull_renewal_arrivals(2.5, 0.5, stream(seed, "w")).size for seed in range(4000)]
    assert np.mean(counts) == pytest.approx(0.5, abs=4.0 * float(np.std(counts)) / math.sqrt(4000))
    gaps = np.diff(weibull_renewal_arrivals(0.7, 20_000.0, stream(2, "w")))
    scale = 1.0 / math.gamma(1.0 + 1.0 / weibull_shape(0.7))
    assert stats.kstest(gaps, stats.weibull_min(weibull_shape(0.7), scale=scale).cdf).pvalue > 0.01


@pytest.mark.parametrize("gaps", ["gamma", "weibull"])
def test_tenants_share_the_rate_as_described(gaps: str) -> None:
    arrivals = described(**TENANTS | {"gaps": gaps})
    assert isinstance(arrivals, TenantArrivals)
    shares = tenant_shares(arrivals)
    assert shares.size == 40
    assert [shares[:number].sum() for number in (1, 5, 20, 40)] == pytest.approx([0.3, 0.6, 0.9, 1.0])
    assert (np.diff(shares) <= 1e-12).all()
    totals = [arrival_instants(arrivals, 2.0, 5000.0, 0.0, streams(seed)).size for seed in range(20)]
    half_width = float(4.0 * np.std(totals, ddof=1) / math.sqrt(20))
    assert half_width < 600
    assert np.mean(totals) == pytest.approx(10_000, abs=half_width)


def test_bursty_tenants_make_bursty_traffic_and_regular_ones_do_not() -> None:
    dispersions = []
    for cv in (1.0, 5.0):
        arrivals = described(**TENANTS | {"cv": {"quantiles": {0: cv, 1: cv}} | OURS})
        instants = arrival_instants(arrivals, 20.0, 50_000.0, 0.0, streams(1))
        dispersions.append(allan_dispersion(instants, 100.0, 50_000.0))
    assert dispersions[0] == pytest.approx(1.0, abs=0.2)
    assert dispersions[1] > 5.0


@pytest.mark.parametrize(
    ("largest", "message"),
    [({5: 0.3, 10: 0.9}, "must rise"), ({1: 0.5, 2: 0.4}, "must rise"), ({41: 0.9}, "of 40"), ({40: 0.8}, "of 40")],
)
def test_shares_that_are_none(largest: dict[int, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        described(**TENANTS | {"shares": {"largest": largest} | OURS})


def on_off(jobs: int) -> Arrivals:
    table = {"distribution": "quantile_table", "quantiles": {0: "20 s", 1: "200 s"}} | OURS
    longer = {"distribution": "quantile_table", "quantiles": {0: "100 s", 1: "900 s"}} | OURS
    return described(process="on_off", jobs=jobs, running=table, pausing=longer, cv=sourced(1.0))


def test_jobs_keep_the_mean_rate_and_are_stationary_from_the_start() -> None:
    totals = [arrival_instants(on_off(3), 4.0, 50.0, 0.0, streams(seed)).size for seed in range(500)]
    half_width = float(4.0 * np.std(totals) / math.sqrt(500))
    assert half_width < 0.2 * 200
    assert np.mean(totals) == pytest.approx(200.0, abs=half_width)


def test_a_job_pauses() -> None:
    instants = arrival_instants(on_off(1), 4.0, 20_000.0, 0.0, streams(1))
    gaps = np.diff(instants)
    assert (gaps > 90.0).sum() > 20
    assert gaps.max() < 910.0
    assert np.median(gaps) < 0.1


def test_batches_come_at_their_times_with_what_the_rate_brings() -> None:
    arrivals = described(process="batch", every=sourced("100 s"), first=sourced("30 s"))
    instants = arrival_instants(arrivals, 0.255, 400.0, 0.0, streams(1))
    assert np.unique(instants).tolist() == [30.0, 130.0, 230.0, 330.0]
    assert np.unique(instants, return_counts=True)[1].tolist() == [25, 26, 25, 26]


def test_the_past_goes_backwards_by_the_profile_and_keeps_its_order() -> None:
    profile = [0.0] * 12 + [1.0] * 12
    arrivals = described(process="poisson", profile={"multipliers": profile} | OURS)
    past = past_instants(arrivals, 0.5, 86_400.0, 12.0, streams(1))
    assert (np.diff(past) <= 0.0).all()
    # at noon the twelve quiet hours lie just behind, the busy ones before them
    assert past.max() <= -12 * 3600.0
    assert past.size == pytest.approx(0.5 * 86_400, abs=4.0 * math.sqrt(0.5 * 86_400))
    longer = past_instants(arrivals, 0.5, 2 * 86_400.0, 12.0, streams(1))
    assert longer[: past.size] == pytest.approx(past)
