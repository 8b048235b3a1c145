"""Arrival processes: the stated distribution, the stated end, and vLLM's own schedule from the same gaps."""

import asyncio
import math

import numpy as np
import pytest

from labs.core.errors import UserError
from labs.serving import arrivals


def gaps(times):
    return np.diff([0.0, *times])


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another():
    assert arrivals.poisson(50, 4, seed=1) == arrivals.poisson(50, 4, seed=1)
    assert arrivals.poisson(50, 4, seed=1) != arrivals.poisson(50, 4, seed=2)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_the_mean_and_the_variation_that_burstiness_means(burstiness):
    drawn = gaps(arrivals.gamma(20000, rate=5, burstiness=burstiness, seed=0, rescale=False))
    assert drawn.min() >= 0
    assert np.mean(drawn) == pytest.approx(1 / 5, rel=0.05)
    assert np.std(drawn) / np.mean(drawn) == pytest.approx(1 / math.sqrt(burstiness), rel=0.05)


def test_poisson_gaps_are_exponential():
    drawn = gaps(arrivals.poisson(20000, rate=2, rescale=False))
    for seconds in (0.1, 0.5, 1.0, 2.0):  # the survival function is exp(-rate * t)
        assert np.mean(drawn > seconds) == pytest.approx(math.exp(-2 * seconds), abs=0.015)


def test_a_rescaled_schedule_ends_at_n_over_rate_in_order():
    for burstiness in (0.5, 1.0, math.inf):
        times = arrivals.gamma(37, rate=4, burstiness=burstiness, seed=3)
        assert times[-1] == pytest.approx(37 / 4)
        assert times == sorted(times)


def test_constant_and_at_once():
    assert arrivals.constant(4, rate=2) == [0.5, 1.0, 1.5, 2.0]
    assert arrivals.at_once(3) == [0.0, 0.0, 0.0]
    assert arrivals.poisson(0, rate=2) == []


@pytest.mark.parametrize("call", [
    lambda: arrivals.poisson(5, rate=0),
    lambda: arrivals.poisson(5, rate=math.inf),
    lambda: arrivals.constant(-1, rate=1),
    lambda: arrivals.gamma(5, rate=1, burstiness=0),
    lambda: arrivals.poisson(5, rate=1, seed=-1),
    lambda: arrivals.gamma(5, rate=1, burstiness=math.nan),
])  # fmt: skip
def test_bad_input_is_a_user_error_of_one_line(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "found" in str(caught.value)


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 3.0, math.inf])
def test_vllm_builds_the_same_schedule_from_the_same_gaps(monkeypatch, burstiness):
    """get_request draws from numpy's global generator; given our draws, it must sleep until our times."""
    serve = pytest.importorskip("vllm.benchmarks.serve")
    n, rate, seed = 25, 8.0, 11
    ours = arrivals.gamma(n, rate, burstiness, seed)
    rng = np.random.default_rng(seed)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async def drive():
        return [r async for r, _ in serve.get_request(list(range(n)), rate, burstiness)]

    # Its clock stands still, so that each sleep lasts from the start of the run to the request.
    monkeypatch.setattr(serve.time, "time", lambda: 1000.0)
    monkeypatch.setattr(serve.np.random, "gamma", lambda shape, scale: rng.gamma(shape, scale))
    monkeypatch.setattr(serve.asyncio, "sleep", sleep)
    assert asyncio.run(drive()) == list(range(n))
    assert slept == pytest.approx(ours)
