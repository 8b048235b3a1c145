"""One decode step of one sequence, taken apart: the messages, the floor of memory, and the rest.

The rows are described in labs/analysis/week5/scaling_benchmark.py. A step comes from the `single`
load, a message from the `all_reduce` rows, the floor from weights and bandwidth.
"""

from typing import Any

from labs.core.record import Record
from labs.core.stats import Summary, summarize


def token_times(record: Record, tp: int) -> list[float]:
    """Decode time a token of one sequence in ms, for each repeat: (t_n - t_1) / (n - 1), without the prefill.

    `single` generates n tokens and `single_1` one token after the same prompt; repeats are paired.
    """
    ones = {row["repeat"]: row["seconds"] for row in record.rows("generate", tp=tp, load="single_1")}
    return [
        (row["seconds"] - ones[row["repeat"]]) / (row["output_tokens"] - 1) * 1e3
        for row in record.rows("generate", tp=tp, load="single")
        if row["repeat"] in ones and row["output_tokens"] > 1
    ]


def ms_per_token(record: Record, tp: int) -> Summary:
    """`token_times`, summarised."""
    return summarize(token_times(record, tp))


def all_reduce_us(record: Record, tp: int, tokens: int) -> Summary:
    """Time of one all-reduce of `tokens` hidden vectors in µs: the slowest rank of each repeat."""
    rows = record.rows("all_reduce", tp=tp, tokens=tokens)
    repeats = zip(*(row["samples_us"] for row in rows), strict=True) if rows else []
    return summarize([max(ranks) for ranks in repeats])


def messages(record: Record, tp: int) -> list[dict[str, Any]]:
    """One row a message size, ascending: tokens, bytes, `summary` (µs), carrier, captured."""
    rows = {row["tokens"]: row for row in record.rows("all_reduce", tp=tp)}
    return [
        {
            "tokens": tokens,
            "bytes": rows[tokens]["bytes"],
            "summary": all_reduce_us(record, tp, tokens),
            "carrier": rows[tokens].get("carrier"),
            "captured": rows[tokens].get("captured"),
        }
        for tokens in sorted(rows)
    ]


def message_sizes(record: Record) -> list[int]:
    """The TP sizes at which messages were timed, ascending."""
    return sorted({row["tp"] for row in record.rows("all_reduce")})


def collective_count(record: Record, tp: int, op: str = "all_reduce") -> int | None:
    """How many collectives of one kind one decode step issues on a rank; None if not counted."""
    rows = record.rows("collectives", tp=tp, op=op)
    first = min((row["rank"] for row in rows), default=None)
    return sum(row["count"] for row in rows if row["rank"] == first) if rows else None


def communication_ms(record: Record, tp: int, tokens: int = 1) -> float | None:
    """All-reduces of one step, count times the time of one, in ms; 0 at TP=1, where there are none."""
    if tp == 1:
        return 0.0
    count, each = collective_count(record, tp), all_reduce_us(record, tp, tokens).median
    return count * each / 1e3 if count is not None and each is not None else None


def step_time(record: Record, tp: int) -> dict[str, float | None]:
    """One decode step of one sequence in ms, and what it is made of.

    communication_ms   all-reduces, count times time;   rest_ms: everything else;   share: of the step
    perfect_ms         the step of TP=1 divided by tp;  missing_ms: what the step takes beyond it
    explained          communication_ms / missing_ms, the part of the loss that messages account for
    """
    step, communication = ms_per_token(record, tp).median, communication_ms(record, tp)
    one = ms_per_token(record, 1).median
    perfect = one / tp if one is not None else None
    missing = step - perfect if step is not None and perfect is not None else None
    known = step is not None and communication is not None
    return {
        "step_ms": step,
        "communication_ms": communication,
        "rest_ms": step - communication if step is not None and communication is not None else None,
        "share": communication / step if known and step and communication is not None else None,
        "perfect_ms": perfect,
        "missing_ms": missing,
        "explained": communication / missing if communication and missing and missing > 0 else None,
    }


def bandwidth(record: Record, tp: int) -> Summary:
    """Memory bandwidth of rank 0's device in bytes/s: what a large copy reads and writes, over its time."""
    return summarize(
        [row["bytes"] / s for row in record.rows("bandwidth", tp=tp) for s in row["samples_s"] if s > 0]
    )


def step_bytes(record: Record, tp: int) -> int | None:
    """Bytes of weights that the fullest rank reads in one decode step; None if not measured."""
    return max(record.values("load", "step_weight_bytes", tp=tp), default=None)


def floor(record: Record, tp: int) -> dict[str, float | None]:
    """The decode floor in ms (weights of a rank over its bandwidth), and the step against it.

    above_ms is the step minus the floor, ratio the step over the floor.
    """
    size, speed = step_bytes(record, tp), bandwidth(record, tp).median
    least = size / speed * 1e3 if size and speed else None
    step = ms_per_token(record, tp).median
    known = step is not None and least is not None
    return {
        "bytes": size,
        "bytes_per_s": speed,
        "floor_ms": least,
        "step_ms": step,
        "above_ms": step - least if step is not None and least is not None else None,
        "ratio": step / least if known and least and step is not None else None,
    }


def ring_bytes(size: float, ranks: int) -> float:
    """Bytes that each rank sends in a ring all-reduce of a message of `size` bytes."""
    return 2 * (ranks - 1) / ranks * size


def all_reduce_s(size: float, ranks: int, alpha_s: float, bytes_per_s: float) -> float:
    """The alpha-beta model of a ring: 2(N-1) steps of `alpha_s` each, and the bytes over the bandwidth."""
    return 2 * (ranks - 1) * alpha_s + ring_bytes(size, ranks) / bytes_per_s


def misfit(
    record: Record, tp: int, alpha_s: float, bytes_per_s: float
) -> tuple[float | None, dict[str, Any] | None]:
    """(factor, row of `messages`) where model and measured median lie furthest apart, or (None, None)."""
    worst: tuple[float | None, dict[str, Any] | None] = None, None
    for row in messages(record, tp):
        model = all_reduce_s(row["bytes"], tp, alpha_s, bytes_per_s) * 1e6
        if row["summary"].median and model > 0:
            ratio = row["summary"].median / model
            factor = max(ratio, 1 / ratio)
            if worst[0] is None or factor > worst[0]:
                worst = factor, row
    return worst
