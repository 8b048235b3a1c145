"""What a setup Record says: what each rank holds, whether memory is about equal, and how far results differ.

Rows that the experiment writes:

    load        tp, rank, import_s, load_s, kv_tokens
    memory      tp, rank, weight_bytes, kv_bytes, rss_bytes, gpu_bytes (NVML, its GPU; null on a CPU)
    shard       tp, rank, name, shape, bytes, full_shape (the shape at TP=1; null if TP=1 was not loaded)
    generation  tp, prompt, text, token_ids (rank 0)
    logprobs    source ("transformers float32", "transformers bfloat16", "vLLM TP=2"), tp, prompt, token_ids,
                logprobs
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labs.core.record import Record

Row = Mapping[str, Any]
REFERENCE = "transformers float32"


def kinds(rows: Iterable[Row], kind: str, **where: Any) -> list[Row]:
    """Rows of one kind whose columns equal `where`; for a Record's samples and for rows still being made."""
    return [r for r in rows if r["kind"] == kind and all(r.get(k) == v for k, v in where.items())]


def split_of(row: Row) -> str:
    """How a shard was cut: "column" (output rows), "row" (input columns), "replicated", or "unknown"."""
    shape, full = row["shape"], row["full_shape"]
    if full is None:
        return "unknown"
    if shape == full:
        return "replicated"
    return "column" if shape[0] != full[0] else "row"


def coverage(rows: Sequence[Row], tp: int) -> dict[str, Any]:
    """Whether the ranks' shards hold every weight whole: the names that are short, and how many there are.

    A padded vocabulary or replicated KV heads make the sum larger than the whole, never smaller.
    """
    shards: dict[str, list[Row]] = {}
    for row in kinds(rows, "shard", tp=tp):
        shards.setdefault(row["name"], []).append(row)
    missing = [
        name
        for name, parts in shards.items()
        if any(len(part["shape"]) != len(part["full_shape"]) for part in parts)
        or (
            any(part["shape"] != part["full_shape"] for part in parts)
            and sum(math.prod(part["shape"]) for part in parts) < math.prod(parts[0]["full_shape"])
        )
        or len(parts) != tp
    ]
    return {"weights": len(shards), "missing": missing}


def rank_bytes(record: Record, tp: int, column: str) -> list[int | None]:
    """One memory column by rank, in rank order; None where it was not measured."""
    return [row.get(column) for row in sorted(record.rows("memory", tp=tp), key=lambda r: r["rank"])]


def about_equal(values: Sequence[float | None], within: float) -> dict[str, Any] | None:
    """ "About equal" or not: spread (max - min) / mean against `within`; None for fewer than two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    spread = (max(known) - min(known)) / statistics.fmean(known)
    return {"spread": spread, "within": within, "equal": spread <= within}


def difference(rows: Sequence[Row], name: str, against: str = REFERENCE) -> dict[str, Any]:
    """Mean and largest |log-probability difference| of the same tokens between two sources, with n tokens."""
    left = {row["prompt"]: row["logprobs"] for row in kinds(rows, "logprobs", source=name)}
    right = {row["prompt"]: row["logprobs"] for row in kinds(rows, "logprobs", source=against)}
    gaps = [abs(a - b) for prompt in left for a, b in zip(left[prompt], right[prompt], strict=True)]
    if not gaps:
        return {"mean": math.inf, "max": math.inf, "n": 0}
    return {"mean": statistics.fmean(gaps), "max": max(gaps), "n": len(gaps)}


def sources(record: Record) -> list[str]:
    """Who gave log-probabilities, in the order in which they were asked."""
    return list(dict.fromkeys(row["source"] for row in record.rows("logprobs")))


def same_tokens(record: Record, tp: int) -> tuple[int, int] | None:
    """(greedy tokens equal to TP=1's before the first difference, tokens compared) over all prompts."""
    one = {row["prompt"]: row["token_ids"] for row in record.rows("generation", tp=1)}
    here = {row["prompt"]: row["token_ids"] for row in record.rows("generation", tp=tp)}
    if not one or not here:
        return None
    same = total = 0
    for prompt, tokens in here.items():
        total += len(tokens)
        for a, b in zip(tokens, one[prompt], strict=True):
            if a != b:
                break
            same += 1
    return same, total


def tp_sizes(record: Record) -> list[int]:
    """The sizes that were loaded, ascending."""
    return sorted(
        {row["tp"] for row in record.rows("load")} | {r["tp"] for r in record.rows("logprobs") if r["tp"]}
    )


def summary(record: Record) -> list[dict[str, Any]]:
    """The table that the command prints."""
    within = record.config.get("equal_within", 0.05)
    table = []
    for tp in tp_sizes(record):
        loads = record.rows("load", tp=tp)
        weights = [w for w in rank_bytes(record, tp, "weight_bytes") if w is not None]
        verdict = about_equal(weights, within)
        gap = difference(record.samples, f"vLLM TP={tp}")
        same = same_tokens(record, tp)
        table.append(
            {
                "TP": tp,
                "load s": max((row["import_s"] + row["load_s"] for row in loads), default=None),
                "weights MiB/rank": statistics.fmean(weights) / 2**20 if weights else None,
                "ranks about equal": "-" if verdict is None else ("yes" if verdict["equal"] else "no"),
                "KV tokens": loads[0]["kv_tokens"] if loads else None,
                "greedy tokens as TP=1": f"{same[0]}/{same[1]}" if same else None,
                "mean |Δ log p|": gap["mean"] if gap["n"] else None,
            }
        )
    return table
