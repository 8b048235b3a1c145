"""Statistics against numpy and against the formulas of their sources."""

import numpy as np
import pytest

from labs.core import stats


def test_summary_matches_numpy_and_ignores_what_was_not_measured():
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    found = stats.summarize([*values, None])
    assert found.n == 5
    assert found.median == np.median(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert (found.min, found.max) == (1.0, 5.0)
    assert found.text("ms") == "3 ms (1 to 5, n=5)"


def test_nothing_measured_is_none_and_says_so():
    assert stats.summarize([None]) == stats.Summary(n=0)
    assert stats.summarize([]).text("ms") == "not measured"
    assert stats.summarize([2.0]).std is None


@pytest.mark.parametrize(
    ("p", "n"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000), (1, 100), (10, 10)]
)
def test_a_percentile_needs_as_many_samples_as_put_one_beyond_it(p, n):
    assert stats.samples_needed(p) == n
    rng = np.random.default_rng(0)
    values = list(rng.normal(size=n))
    assert stats.percentile(values, p) == pytest.approx(np.percentile(values, p))
    assert stats.percentile(values[:-1], p) is None
    assert stats.percentile([*values[:-1], None], p) is None


def test_percentiles_outside_0_to_100_are_refused():
    for p in (0, 100, -1, 101):
        with pytest.raises(ValueError, match="not between"):
            stats.percentile([1.0, 2.0], p)


def test_jain_is_one_for_equal_shares_and_one_over_n_for_one_taker():
    assert stats.jain([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert stats.jain([5.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 4)
    assert stats.jain([1.0, 3.0]) == pytest.approx(16 / 20)
    assert stats.jain([]) is None
    assert stats.jain([0.0, 0.0]) is None


def test_karp_flatt_recovers_amdahls_serial_fraction():
    for serial in (0.0, 0.1, 0.5, 1.0):
        for ranks in (2, 4, 8):
            amdahl = 1 / (serial + (1 - serial) / ranks)
            assert stats.karp_flatt(amdahl, ranks) == pytest.approx(serial)
    assert stats.karp_flatt(1.0, 1) is None
    assert stats.speedup(100.0, 250.0) == 2.5
