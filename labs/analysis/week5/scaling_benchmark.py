"""What a scaling Record says: throughput, speed-up, efficiency, serial fraction, cost of a token.

Rows that the experiment writes:

    load         tp, rank, import_s, load_s, weight_bytes, step_weight_bytes (those that a decode step reads)
    generate     tp, load ("saturated", "medium", "single", "single_1"), repeat, seconds, requests,
                 input_tokens, output_tokens (both summed over the requests)
    collectives  tp, rank, op ("all_reduce", "all_gather"), count, bytes: one decode step of one sequence
    all_reduce   tp, rank, bytes, tokens, carrier, captured, samples_us: vLLM's own all-reduce at that size
    bandwidth    tp, rank, bytes (read and written), samples_s: a device copy on rank 0

`labs.analysis.week5.scaling_step` takes a single decode step apart: messages, floor, and the rest.
"""

import statistics
from typing import Any

from labs.analysis.week5 import scaling_step as step
from labs.core.record import Record
from labs.core.stats import Summary, karp_flatt, speedup, summarize

LOADS = ("saturated", "medium", "single")

# The source document's claim (Qwen2.5-7B, A100; no batch size, no lengths given): TP -> output tok/s.
CLAIM = {1: 450.0, 2: 800.0, 4: 1400.0}


def tp_sizes(record: Record) -> list[int]:
    """The tensor-parallel sizes that were measured, ascending."""
    return sorted({row["tp"] for row in record.rows("generate")})


def throughput(record: Record, tp: int, load: str) -> Summary:
    """Output tokens per second over the repeats of one load, prefill included."""
    return summarize(
        [row["output_tokens"] / row["seconds"] for row in record.rows("generate", tp=tp, load=load)]
    )


def rate(record: Record, tp: int, load: str) -> Summary:
    """Tokens per second that a load is judged by: its throughput; for the single stream, decode alone."""
    if load == "single":
        return summarize([1e3 / ms for ms in step.token_times(record, tp) if ms > 0])
    return throughput(record, tp, load)


def scaling(record: Record, load: str = "saturated") -> list[dict[str, Any]]:
    """One row a TP size: its rate, and what that says against TP=1 of the same Record.

    `speedup` compares medians; `low` and `high` compare the extremes of the repeats, and so do the ranges of
    what is derived from them. `cost` is the price of a token relative to TP=1 (tp/speedup). All are None
    where TP=1 or the load was not measured.
    """
    sizes = tp_sizes(record)
    base = rate(record, 1, load)
    rows = []
    for tp in sizes:
        found = rate(record, tp, load)
        gain, low, high = _gain(base, found, tp)
        rows.append(
            {
                "tp": tp,
                "tokens_per_s": found.median,
                "summary": found,
                "speedup": gain,
                "low": low,
                "high": high,
                **_derived(gain, tp),
                **_range_of_derived(low, high, tp),
            }
        )
    return rows


def claim() -> list[dict[str, Any]]:
    """The source document's row in the form of `scaling`, without spread: a claim, not a measurement."""
    return [
        {"tp": tp, "tokens_per_s": tokens, "speedup": tokens / CLAIM[1], **_derived(tokens / CLAIM[1], tp)}
        for tp, tokens in CLAIM.items()
    ]


def at(record: Record, load: str, tp: int) -> dict[str, Any] | None:
    """The row of `scaling` for one TP size; None if it was not measured."""
    return next((row for row in scaling(record, load) if row["tp"] == tp), None)


def gains_most(record: Record, tp: int) -> list[str]:
    """The loads with the greatest speed-up at `tp`: the best one, and those whose range reaches its range."""
    rows = {load: row for load in LOADS if (row := at(record, load, tp)) and row["speedup"]}
    if len(rows) < 2 or tp == 1:
        return []
    best = max(rows, key=lambda load: rows[load]["speedup"])
    return [best, *(load for load in rows if load != best and rows[load]["high"] >= rows[best]["low"])]


def load_seconds(record: Record, tp: int) -> float | None:
    """Time to open the engine, import included, on the slowest rank."""
    times = [row["import_s"] + row["load_s"] for row in record.rows("load", tp=tp)]
    return max(times) if times else None


def summary(record: Record) -> list[dict[str, Any]]:
    """The table that the command prints."""
    table = []
    for row in scaling(record):
        tp = row["tp"]
        parts = step.step_time(record, tp)
        weights = record.values("load", "weight_bytes", tp=tp)
        table.append(
            {
                "TP": tp,
                "output tok/s": row["tokens_per_s"],
                "n": row["summary"].n,
                "speed-up": row["speedup"],
                "efficiency": row["efficiency"],
                "serial fraction": row["serial_fraction"] if tp > 1 else "-",
                "ms/token, 1 request": parts["step_ms"],
                "all-reduce ms/step": parts["communication_ms"],
                "share": parts["share"],
                "weights MiB/rank": statistics.fmean(weights) / 2**20 if weights else None,
                "load s": load_seconds(record, tp),
            }
        )
    return table


def _gain(base: Summary, found: Summary, tp: int) -> tuple[float | None, float | None, float | None]:
    """(speed-up of the medians, least and greatest of any two repeats); TP=1 against itself is exactly 1."""
    if not (base.median and base.min and base.max and found.median and found.min and found.max):
        return None, None, None
    if tp == 1:
        return 1.0, 1.0, 1.0
    return speedup(base.median, found.median), found.min / base.max, found.max / base.min


def _derived(gain: float | None, tp: int) -> dict[str, float | None]:
    return {
        "efficiency": gain / tp if gain else None,
        "serial_fraction": karp_flatt(gain, tp) if gain else None,
        "cost": tp / gain if gain else None,
    }


def _range_of_derived(low: float | None, high: float | None, tp: int) -> dict[str, float | None]:
    """Least and greatest `serial_fraction` and `cost`: both fall when the speed-up rises."""
    best, worst = _derived(high, tp), _derived(low, tp)
    names = ("serial_fraction", "cost")
    return {f"{name}_low": best[name] for name in names} | {f"{name}_high": worst[name] for name in names}
