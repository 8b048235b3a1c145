"""The numbers of the scaling benchmark on rows whose answers are known by hand."""

import pytest

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.core.record import Record


def record(*rows: dict) -> Record:
    return Record.new(
        "week5/03_scaling_benchmark", config={}, samples=list(rows), seconds=1.0, weights="tiny", model="tiny",
        profile="cpu", hardware={"summary": "test"},
    )  # fmt: skip


def generate(tp: int, load: str, repeat: int, seconds: float, tokens: int) -> dict:
    return {"kind": "generate", "tp": tp, "load": load, "repeat": repeat, "seconds": seconds, "output_tokens": tokens}


def test_speedup_efficiency_and_serial_fraction_of_a_known_run():
    found = record(
        *(generate(1, "saturated", i, 2.0, 200) for i in range(3)),
        *(generate(2, "saturated", i, 1.25, 200) for i in range(3)),
    )
    one, two = numbers.scaling(found)
    assert one["tokens_per_s"] == 100
    assert two["speedup"] == pytest.approx(1.6)
    assert two["efficiency"] == pytest.approx(0.8)
    assert two["serial_fraction"] == pytest.approx((1 / 1.6 - 0.5) / 0.5)
    assert one["serial_fraction"] is None


def test_without_tp1_there_is_no_speedup_rather_than_a_wrong_one():
    (two,) = numbers.scaling(record(generate(2, "saturated", 0, 1.0, 100)))
    assert two["speedup"] is None
    assert two["efficiency"] is None


def test_ms_per_token_takes_the_prefill_out():
    found = record(
        *(generate(1, "single", i, 0.050 + 0.001 * i, 11) for i in range(3)),
        *(generate(1, "single_1", i, 0.010 + 0.001 * i, 1) for i in range(3)),
    )
    assert numbers.ms_per_token(found, 1).median == pytest.approx(4.0)
    assert numbers.ms_per_token(found, 1).n == 3


def test_all_reduce_takes_the_slowest_rank_of_each_repeat():
    rows = [
        {"kind": "all_reduce", "tp": 2, "rank": 0, "tokens": 1, "samples_us": [10.0, 30.0, 10.0]},
        {"kind": "all_reduce", "tp": 2, "rank": 1, "tokens": 1, "samples_us": [20.0, 10.0, 15.0]},
        {"kind": "collectives", "tp": 2, "rank": 0, "op": "all_reduce", "count": 9},
    ]
    assert numbers.all_reduce_us(record(*rows), 2, 1).median == 20.0
    assert numbers.communication_ms(record(*rows), 2) == pytest.approx(0.18)


def test_what_was_not_measured_is_none():
    empty = record(generate(2, "saturated", 0, 1.0, 100))
    assert numbers.communication_ms(empty, 2) is None
    assert numbers.step_time(empty, 2)["share"] is None
    assert numbers.load_seconds(empty, 2) is None
    assert numbers.summary(empty)[0]["all-reduce ms/step"] is None
