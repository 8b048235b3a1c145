"""The numbers of the scaling benchmark on rows whose answers are known by hand."""

import pytest

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.analysis.week5 import scaling_step as step
from labs.core.record import Record
from labs.tests import scaling_toys as toys
from labs.tests.scaling_toys import generate, record


def rates(tp: int, load: str, *seconds: float, tokens: int = 200) -> list[dict]:
    return [generate(tp, load, i, s, tokens) for i, s in enumerate(seconds)]


def test_speedup_efficiency_serial_fraction_and_cost_of_a_known_run() -> None:
    one, two = numbers.scaling(record([*rates(1, "saturated", 2, 2, 2), *rates(2, "saturated", 1.25, 1.25)]))
    assert one["tokens_per_s"] == 100
    assert two["speedup"] == pytest.approx(1.6)
    assert two["efficiency"] == pytest.approx(0.8)
    assert two["serial_fraction"] == pytest.approx((1 / 1.6 - 0.5) / 0.5)
    assert two["cost"] == pytest.approx(1.25)
    assert one["serial_fraction"] is None


def test_the_range_compares_the_extremes_of_the_repeats() -> None:
    rows = [
        *rates(1, "saturated", 1, 2, 4),
        *rates(2, "saturated", 1, 1, 2),
    ]  # 200, 100, 50 and 200, 200, 100
    one, two = numbers.scaling(record(rows))
    assert (two["low"], two["speedup"], two["high"]) == (0.5, 2.0, 4.0)
    assert (two["cost_low"], two["cost"], two["cost_high"]) == (0.5, 1.0, 4.0)
    assert two["serial_fraction_low"] < two["serial_fraction"] < two["serial_fraction_high"]
    assert (one["low"], one["high"]) == (1.0, 1.0)


def test_without_tp1_there_is_no_speedup_rather_than_a_wrong_one() -> None:
    (two,) = numbers.scaling(record(rates(2, "saturated", 1.0)))
    for name in ("speedup", "low", "high", "efficiency", "serial_fraction", "cost", "cost_low"):
        assert two[name] is None, name


def test_the_single_stream_is_judged_by_its_decode() -> None:
    rows = [
        row
        for tp, ms in ((1, 4.0), (2, 2.5))
        for row in (generate(tp, "single", 0, 1.0 + 10 * ms / 1e3, 11), generate(tp, "single_1", 0, 1.0, 1))
    ]
    _, two = numbers.scaling(record(rows), "single")
    assert two["speedup"] == pytest.approx(1.6)
    assert two["tokens_per_s"] == pytest.approx(400)


def test_the_claim_is_the_documents_row() -> None:
    assert [row["tokens_per_s"] for row in numbers.claim()] == [450, 800, 1400]
    assert [round(row["speedup"], 1) for row in numbers.claim()] == [1.0, 1.8, 3.1]
    assert [round(row["efficiency"], 2) for row in numbers.claim()] == [1.0, 0.89, 0.78]


def test_gains_most_names_every_load_that_the_repeats_cannot_tell_from_the_best() -> None:
    assert numbers.gains_most(toys.recorded(), 4) == ["saturated"]
    assert numbers.gains_most(toys.recorded(), 1) == []
    clear = [*rates(1, "saturated", 1, 1), *rates(2, "saturated", 0.5, 0.5)]
    close = [*rates(1, "medium", 1, 1), *rates(2, "medium", 0.4, 0.7)]
    assert numbers.gains_most(record([*clear, *close]), 2) == ["saturated", "medium"]
    assert numbers.gains_most(record(clear), 2) == []  # one load has nothing to be compared with


def test_ms_per_token_takes_the_prefill_out() -> None:
    rows = [
        *(generate(1, "single", i, 0.050 + 0.001 * i, 11) for i in range(3)),
        *(generate(1, "single_1", i, 0.010 + 0.001 * i, 1) for i in range(3)),
    ]
    found = step.ms_per_token(record(rows), 1)
    assert (found.n, found.median) == (3, pytest.approx(4.0))


def test_all_reduce_takes_the_slowest_rank_of_each_repeat() -> None:
    rows = [
        {"kind": "all_reduce", "tp": 2, "rank": 0, "tokens": 1, "bytes": 8, "samples_us": [10.0, 30.0, 10.0]},
        {"kind": "all_reduce", "tp": 2, "rank": 1, "tokens": 1, "bytes": 8, "samples_us": [20.0, 10.0, 15.0]},
        {"kind": "collectives", "tp": 2, "rank": 0, "op": "all_reduce", "count": 9},
        {"kind": "collectives", "tp": 2, "rank": 1, "op": "all_reduce", "count": 9},
    ]
    assert step.all_reduce_us(record(rows), 2, 1).median == 20.0
    assert step.collective_count(record(rows), 2) == 9
    assert step.communication_ms(record(rows), 2) == pytest.approx(0.18)


def test_a_step_is_split_and_its_loss_explained() -> None:
    found = step.step_time(toys.own(), 2)
    message = 4 + 512 / 20e3  # µs: two ring steps of 2, and 512 bytes at 20 GB/s
    assert found["communication_ms"] == pytest.approx(9 * message / 1e3)
    assert found["step_ms"] == pytest.approx(6.0)
    assert found["perfect_ms"] == pytest.approx(2.0)
    assert found["missing_ms"] == pytest.approx(4.0)
    assert found["share"] == pytest.approx(9 * message / 6e3)
    assert found["explained"] == pytest.approx(9 * message / 4e3)
    assert step.step_time(toys.own(), 1)["communication_ms"] == 0


def test_the_floor_is_weights_over_bandwidth() -> None:
    one, two = step.floor(toys.own(), 1), step.floor(toys.own(), 2)
    assert one["floor_ms"] == pytest.approx(0.8)  # 8 MB at 10 GB/s
    assert two["floor_ms"] == pytest.approx(0.4)
    assert one["ratio"] == pytest.approx(5.0)
    assert one["above_ms"] == pytest.approx(3.2)


@pytest.mark.parametrize("kind", ["bandwidth", "load"])
def test_no_floor_without_bandwidth_or_weights(kind: str) -> None:
    found = step.floor(toys.without(toys.own(), kind), 1)
    assert found["floor_ms"] is None
    assert found["ratio"] is None
    assert found["step_ms"] is not None


def test_the_ring_model_finds_the_ring_that_made_the_times() -> None:
    assert step.ring_bytes(1000, 4) == 1500
    assert step.all_reduce_s(0, 4, 1e-6, 1e9) == pytest.approx(6e-6)
    factor, _ = step.misfit(toys.recorded(), 4, 2e-6, 20e9)
    assert factor == pytest.approx(1.0)
    worse, row = step.misfit(toys.recorded(), 4, 2e-6, 2e9)
    assert worse is not None
    assert worse > 5
    assert row is not None
    assert row["tokens"] == 1024
    assert step.misfit(toys.recorded(), 1, 2e-6, 2e9) == (None, None)


def test_what_was_not_measured_is_none() -> None:
    empty = record(rates(2, "saturated", 1.0))
    assert step.communication_ms(empty, 2) is None
    assert all(value is None for value in step.step_time(empty, 2).values())
    assert step.messages(empty, 2) == []
    assert numbers.load_seconds(empty, 2) is None
    (row,) = numbers.summary(empty)
    assert row["all-reduce ms/step"] is None
    assert row["speed-up"] is None


def test_the_summary_has_one_row_a_size() -> None:
    rows = numbers.summary(toys.recorded())
    assert [row["TP"] for row in rows] == [1, 2, 4]
    assert rows[2]["speed-up"] == pytest.approx(20716 / 8087)
    assert rows[0]["serial fraction"] == "-"
    assert isinstance(toys.recorded(), Record)
