"""Statistics of samples. Every figure carries its n, and a percentile that n cannot carry is None."""

import math
import statistics
from collections.abc import Sequence

from pydantic import BaseModel


class Summary(BaseModel, frozen=True):
    """What a set of repeats says: location, spread and n, in the samples' own unit."""

    n: int
    median: float | None = None
    mean: float | None = None
    std: float | None = None  # sample standard deviation; None for n < 2
    min: float | None = None
    max: float | None = None

    def text(self, unit: str = "", digits: int = 3) -> str:
        """`12.3 ms (11.9 to 12.8, n=5)`, or `not measured`."""
        if self.median is None or self.min is None or self.max is None:
            return "not measured"
        value = f"{self.median:.{digits}g} {unit}".rstrip()
        return f"{value} ({self.min:.{digits}g} to {self.max:.{digits}g}, n={self.n})"


def summarize(samples: Sequence[float | None]) -> Summary:
    """Summarise the samples that were measured; None entries do not count."""
    values = [float(x) for x in samples if x is not None]
    if not values:
        return Summary(n=0)
    return Summary(
        n=len(values),
        median=statistics.median(values),
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        min=min(values),
        max=max(values),
    )


def samples_needed(p: float) -> int:
    """The fewest samples that put at least one of them beyond percentile `p` (0 < p < 100).

    A p99 over 20 requests is their maximum under another name; 100 samples are the least that have a 99th
    percentile of their own. The rule is symmetric, so p1 needs 100 as well.
    """
    if not 0 < p < 100:
        raise ValueError(f"percentile {p} is not between 0 and 100")
    return math.ceil(100 / min(p, 100 - p) - 1e-9)


def percentile(samples: Sequence[float | None], p: float) -> float | None:
    """Percentile `p` by linear interpolation (numpy's default method), or None if n < `samples_needed(p)`."""
    values = sorted(float(x) for x in samples if x is not None)
    if not values or len(values) < samples_needed(p):
        return None
    position = (len(values) - 1) * p / 100
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def jain(shares: Sequence[float]) -> float | None:
    """Jain's fairness index (Σx)²/(n·Σx²): 1 when all shares are equal, 1/n when one takes everything.

    Source: Jain, Chiu, Hawe, DEC-TR-301 (1984). Give it shares that should be equal, such as 1/slowdown.
    """
    total, squares = sum(shares), sum(x * x for x in shares)
    return total * total / (len(shares) * squares) if squares > 0 else None


def speedup(baseline: float, value: float) -> float:
    """How many times `value` is of `baseline`, for rates (tokens/s). For times, swap the arguments."""
    return value / baseline


def karp_flatt(speed: float, ranks: int) -> float | None:
    """The experimentally determined serial fraction e = (1/S - 1/N)/(1 - 1/N); None for one rank.

    If e grows with N, overhead grows with N (communication); if it stays, a fixed part does not split.
    Source: Karp and Flatt, Communications of the ACM 33(5), 1990.
    """
    return (1 / speed - 1 / ranks) / (1 - 1 / ranks) if ranks > 1 else None
