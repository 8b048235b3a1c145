"""What a scaling Record says: throughput, speed-up, efficiency, serial fraction, and the price of communication.

Rows that the experiment writes:

    load         tp, rank, import_s, load_s, weight_bytes
    generate     tp, load ("saturated", "medium", "single", "single_1"), repeat, seconds, requests, input_tokens,
                 output_tokens (both summed over the requests)
    collectives  tp, op ("all_reduce", "all_gather"), count, bytes: one decode step of one sequence
    all_reduce   tp, rank, bytes, tokens, captured, samples_us: what vLLM's own all-reduce takes at that size
"""

import statistics
from typing import Any

from labs.core.record import Record
from labs.core.stats import Summary, karp_flatt, speedup, summarize


def tp_sizes(record: Record) -> list[int]:
    """The tensor-parallel sizes that were measured, ascending."""
    return sorted({row["tp"] for row in record.rows("generate")})


def throughput(record: Record, tp: int, load: str) -> Summary:
    """Output tokens per second over the repeats of one load."""
    return summarize(
        [row["output_tokens"] / row["seconds"] for row in record.rows("generate", tp=tp, load=load)]
    )


def ms_per_token(record: Record, tp: int) -> Summary:
    """Decode time a token of one sequence: (t_n - t_1) / (n - 1) in ms, so that the prefill drops out.

    `single` generates n tokens and `single_1` one token after the same prompt; repeats are paired.
    """
    ones = {row["repeat"]: row["seconds"] for row in record.rows("generate", tp=tp, load="single_1")}
    return summarize(
        [
            (row["seconds"] - ones[row["repeat"]]) / (row["output_tokens"] - 1) * 1e3
            for row in record.rows("generate", tp=tp, load="single")
            if row["repeat"] in ones and row["output_tokens"] > 1
        ]
    )


def all_reduce_us(record: Record, tp: int, tokens: int) -> Summary:
    """Time of one all-reduce of `tokens` hidden vectors in µs: the slowest rank of each repeat."""
    rows = record.rows("all_reduce", tp=tp, tokens=tokens)
    return (
        summarize([max(at) for at in zip(*(row["samples_us"] for row in rows), strict=True)])
        if rows
        else summarize([])
    )


def message_tokens(record: Record) -> list[int]:
    """The message sizes that were measured, in tokens of one step."""
    return sorted({row["tokens"] for row in record.rows("all_reduce")})


def collective_count(record: Record, tp: int, op: str = "all_reduce") -> int | None:
    """How many collectives of one kind one decode step issues on a rank; None if not counted."""
    counts = record.values("collectives", "count", tp=tp, op=op)
    return counts[0] if counts else None


def communication_ms(record: Record, tp: int, tokens: int = 1) -> float | None:
    """All-reduces of one step, count times the time of one, in ms; 0 at TP=1, where there are none."""
    if tp == 1:
        return 0.0
    count, each = collective_count(record, tp), all_reduce_us(record, tp, tokens).median
    return count * each / 1e3 if count is not None and each is not None else None


def scaling(record: Record, load: str = "saturated") -> list[dict[str, Any]]:
    """One row a TP size: throughput and what it says against TP=1 of the same Record."""
    sizes = tp_sizes(record)
    base = throughput(record, 1, load).median if 1 in sizes else None
    rows = []
    for tp in sizes:
        rate = throughput(record, tp, load)
        gain = speedup(base, rate.median) if base and rate.median else None
        rows.append(
            {
                "tp": tp,
                "tokens_per_s": rate.median,
                "summary": rate,
                "speedup": gain,
                "efficiency": gain / tp if gain else None,
                "serial_fraction": karp_flatt(gain, tp) if gain else None,
            }
        )
    return rows


def step_time(record: Record, tp: int) -> dict[str, float | None]:
    """One decode step of one sequence in ms, split into all-reduce and the rest (everything else)."""
    step, communication = ms_per_token(record, tp).median, communication_ms(record, tp)
    rest = step - communication if step is not None and communication is not None else None
    share = communication / step if step and communication is not None else None
    return {"step_ms": step, "communication_ms": communication, "rest_ms": rest, "share": share}


def load_seconds(record: Record, tp: int) -> float | None:
    """Time to open the engine, import included, on the slowest rank."""
    times = [row["import_s"] + row["load_s"] for row in record.rows("load", tp=tp)]
    return max(times) if times else None


def summary(record: Record) -> list[dict[str, Any]]:
    """The table that the command prints."""
    table = []
    for row in scaling(record):
        tp = row["tp"]
        step = step_time(record, tp)
        weights = record.values("load", "weight_bytes", tp=tp)
        table.append(
            {
                "TP": tp,
                "output tok/s": row["tokens_per_s"],
                "n": row["summary"].n,
                "speed-up": row["speedup"],
                "efficiency": row["efficiency"],
                "serial fraction": row["serial_fraction"] if tp > 1 else "-",
                "ms/token, 1 request": step["step_ms"],
                "all-reduce ms/step": step["communication_ms"],
                "share": step["share"],
                "weights MiB/rank": statistics.fmean(weights) / 2**20 if weights else None,
                "load s": load_seconds(record, tp),
            }
        )
    return table
