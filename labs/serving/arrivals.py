"""Arrival processes: when each request should be sent, in seconds since the run began.

An open loop sends on this schedule whatever the server does; a closed loop has no schedule, since each of its
clients sends when its last request has ended (`labs.serving.client.run_load(concurrency=N)`).

Gaps follow vLLM's benchmark: Gamma(shape = burstiness, scale = 1/(rate · burstiness)), so their mean is
1/rate and their coefficient of variation 1/√burstiness. 1 is a Poisson process, less is burstier, infinity
is constant. As there, the first request comes after one gap and the schedule is stretched so that the last
one comes at n/rate: the offered rate is then the same for every seed (`vllm.benchmarks.serve.get_request`).
"""

import math

import numpy as np

from labs.core.errors import UserError
from labs.serving.workload import check_seed


def poisson(n: int, rate: float, seed: int = 0, *, rescale: bool = True) -> list[float]:
    """Arrival times of `n` requests at `rate` requests/s, independent of each other."""
    return gamma(n, rate, 1.0, seed, rescale=rescale)


def gamma(n: int, rate: float, burstiness: float, seed: int = 0, *, rescale: bool = True) -> list[float]:
    """Arrival times with gamma-distributed gaps; `rescale=False` leaves the sum of the gaps as drawn."""
    _check(n, rate)
    check_seed(seed)
    if not burstiness > 0:
        raise UserError(
            f"burstiness must be greater than 0 (1 is Poisson, less is burstier), found {burstiness}"
        )
    if math.isinf(burstiness):
        return constant(n, rate)
    gaps = np.random.default_rng(seed).gamma(burstiness, 1 / (rate * burstiness), size=n)
    times = np.cumsum(gaps)
    if rescale and n and times[-1] > 0:
        times *= n / rate / times[-1]
    return [float(t) for t in times]


def constant(n: int, rate: float) -> list[float]:
    """Arrival times one gap of 1/rate apart, the first after one gap."""
    _check(n, rate)
    return [(i + 1) / rate for i in range(n)]


def at_once(n: int) -> list[float]:
    """All requests at time 0: an offline batch sent over the network."""
    _check(n, 1.0)
    return [0.0] * n


def _check(n: int, rate: float) -> None:
    if n < 0:
        raise UserError(f"the number of requests must not be negative, found {n}")
    if not rate > 0 or math.isinf(rate):
        raise UserError(f"the request rate must be a finite number above 0 per second, found {rate}")
