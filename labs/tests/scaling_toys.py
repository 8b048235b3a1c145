"""Toy Records of the scaling benchmark in the exact row schema. Nothing outside the tests reads them.

`recorded()` takes its rates from the measured row of weeks/week5/README.md (4x H200), spread
by invented repeats; `own()` is an invented machine with two slow ranks.
"""

from typing import Any

from labs.core.record import Record

STEM = "week5/03_scaling_benchmark"
SHAPES = {"saturated": (64, 64, 64), "medium": (16, 64, 64), "single": (1, 64, 64)}
JITTER = (0.98, 1.0, 1.03)
OWN = {  # tp -> rates in tok/s, ms/token and ms to one token of the single stream
    1: {"saturated": 3000.0, "medium": 1500.0, "ms": 4.0, "t1": 8.0},
    2: {"saturated": 2400.0, "medium": 1125.0, "ms": 6.0, "t1": 12.0},
}
H200 = {
    1: {"saturated": 8087.0, "medium": 5606.0, "ms": 4.775, "t1": 9.02},
    2: {"saturated": 13315.0, "medium": 8010.0, "ms": 3.208, "t1": 7.70},
    4: {"saturated": 20716.0, "medium": 10187.0, "ms": 2.523, "t1": 6.62},
}


def generate(
    tp: int, load: str, repeat: int, seconds: float, tokens: int, requests: int = 1
) -> dict[str, Any]:
    """One timed call."""
    return {
        "part": "scaling", "kind": "generate", "tp": tp, "rank": 0, "load": load, "repeat": repeat,
        "seconds": seconds, "requests": requests, "input_tokens": 64 * requests, "output_tokens": tokens,
        "asked_tokens": tokens,
    }  # fmt: skip


def loads(tp: int, rates: dict[str, float]) -> list[dict[str, Any]]:
    """Three repeats of every load, at the rates given."""
    rows = []
    for repeat, jitter in enumerate(JITTER):
        for load in ("saturated", "medium"):
            requests, _, output = SHAPES[load]
            tokens = requests * output
            rows.append(generate(tp, load, repeat, jitter * tokens / rates[load], tokens, requests))
        one = rates["t1"] / 1e3
        rows.append(generate(tp, "single", repeat, one + jitter * 63 * rates["ms"] / 1e3, 64))
        rows.append(generate(tp, "single_1", repeat, one, 1))
    return rows


def ranks(
    tp: int, step_bytes: float, bytes_per_s: float, hidden_bytes: int, count: int
) -> list[dict[str, Any]]:
    """The rows that each rank adds: load, bandwidth (rank 0), and the messages at TP > 1."""
    copied = 1 << 28
    samples = [copied / bytes_per_s * jitter for jitter in JITTER]
    rows: list[dict[str, Any]] = [
        {"kind": "bandwidth", "tp": tp, "rank": 0, "device": "cpu", "bytes": copied, "samples_s": samples}
    ]
    for rank in range(tp):
        here = {"part": "scaling", "tp": tp, "rank": rank}
        size = int(step_bytes / tp)
        rows.append(
            {"kind": "load", **here, "import_s": 3.0, "load_s": 7.0, "weight_bytes": size,
             "step_weight_bytes": size}
        )  # fmt: skip
        if tp > 1:
            rows.append(
                {"kind": "collectives", **here, "op": "all_reduce", "count": count, "bytes": hidden_bytes}
            )
            rows += [
                {"kind": "all_reduce", **here, "tokens": tokens, "bytes": tokens * hidden_bytes,
                 "carrier": "toy", "captured": False, "samples_us": message(tp, tokens * hidden_bytes)}
                for tokens in (1, 16, 64, 1024)
            ]  # fmt: skip
    return rows


def message(tp: int, size: int, alpha_us: float = 2.0, gb_per_s: float = 20.0) -> list[float]:
    """Times of one message on a ring of known alpha and bandwidth, in µs."""
    model = 2 * (tp - 1) * alpha_us + 2 * (tp - 1) / tp * size / (gb_per_s * 1e3)
    return [model * jitter for jitter in JITTER]


def record(rows: list[dict[str, Any]], summary: str = "CPU, 2 cores, Toy", weights: Any = "tiny") -> Record:
    """A measured Record of these rows."""
    return Record.new(
        STEM, config={}, samples=rows, seconds=30.0, weights=weights, model="toy",
        profile="cpu" if weights == "tiny" else "gpu", hardware={"summary": summary},
    )  # fmt: skip


def own(sizes: tuple[int, ...] = (1, 2)) -> Record:
    """A learner's run; `sizes` may leave out TP=1 or TP=2."""
    rows = [row for tp in sizes for row in [*loads(tp, OWN[tp]), *ranks(tp, 8e6, 10e9, 512, 9)]]
    return record(rows)


def recorded(summary: str = "4x NVIDIA H200") -> Record:
    """A recorded run at three sizes."""
    rows = [row for tp in H200 for row in [*loads(tp, H200[tp]), *ranks(tp, 14.14e9, 4.3e12, 7168, 57)]]
    return record(rows, summary, "dummy").as_recorded("a toy")


def without(one: Record, *kinds: str) -> Record:
    """The Record without the rows of some kinds, as if they had not been measured."""
    return one.model_copy(update={"samples": [row for row in one.samples if row["kind"] not in kinds]})
