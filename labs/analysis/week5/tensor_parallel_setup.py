"""What a setup Record says: start-up, memory by rank, whether it is about equal, and how far results differ.

tensor_parallel_shards.py says which part of which weight a rank holds. Rows that the experiment writes:

    load        tp, rank, import_s, load_s, generate_s (the first answers), kv_tokens (of the whole engine),
                heads, kv_heads, head_dim (of one attention layer on this rank)
    memory      tp, rank, weight_bytes, kv_bytes, kv_tokens, rss_bytes (the process), allocated_bytes (torch
                on the GPU), gpu_bytes (NVML, its GPU; null on a CPU), used_bytes (gpu_bytes, or on a CPU
                rss_bytes), before_bytes (used_bytes after the imports, before the engine)
    shard       tp, rank, name, count (weights alike but for their layer, named after the first; absent: 1),
                shape, dtype, bytes (of one), split ("column", "row", "vocabulary", "replicated"),
                parts (rows by name where vLLM fused several matrices, else null), full_shape (the shape at
                TP=1; null if TP=1 was not loaded)
    generation  tp, prompt, prompt_text, prompt_tokens, text, token_ids (rank 0)
    logprobs    source ("transformers float32", "transformers bfloat16", "vLLM TP=2"), tp, prompt, token_ids,
                logprobs
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labs.core.record import Record

Row = Mapping[str, Any]
REFERENCE, NOISE = "transformers float32", "transformers bfloat16"


def kinds(rows: Iterable[Row], kind: str, **where: Any) -> list[Row]:
    """Rows of one kind whose columns equal `where`; for a Record's samples and for rows still being made."""
    return [r for r in rows if r["kind"] == kind and all(r.get(k) == v for k, v in where.items())]


def count(row: Row) -> int:
    """How many weights a `shard` row stands for."""
    return row.get("count", 1)


def coverage(rows: Sequence[Row], tp: int) -> dict[str, Any]:
    """Whether the ranks' shards hold every weight whole: the names that are short, and how many weights there
    are.

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
        or len({count(part) for part in parts}) > 1
    ]
    return {"weights": sum(count(parts[0]) for parts in shards.values()), "missing": missing}


def loaded(record: Record) -> list[int]:
    """The sizes at which an engine was opened, ascending."""
    return sorted({row["tp"] for kind in ("load", "memory", "shard") for row in record.rows(kind)})


def start_up(record: Record, tp: int) -> dict[str, float | None]:
    """Seconds of `import_s` and `load_s` of the rank that was ready last, `total_s`, `generate_s` (the first
    answers, slowest rank), and `ratio` = total_s / generate_s. All None where the size was not loaded."""
    rows = record.rows("load", tp=tp)
    last = max(rows, key=lambda row: row["import_s"] + row["load_s"], default=None)
    if last is None:
        return dict.fromkeys(("import_s", "load_s", "total_s", "generate_s", "ratio"))
    total = last["import_s"] + last["load_s"]
    answers = max((row["generate_s"] for row in rows if row.get("generate_s")), default=None)
    times = {"import_s": last["import_s"], "load_s": last["load_s"], "total_s": total}
    return {**times, "generate_s": answers, "ratio": total / answers if answers else None}


def rank_bytes(record: Record, tp: int, column: str) -> list[int | None]:
    """One memory column by rank, in rank order; None where it was not measured."""
    return [row.get(column) for row in sorted(record.rows("memory", tp=tp), key=lambda r: r["rank"])]


def memory(record: Record, tp: int) -> list[dict[str, int | None]]:
    """By rank what `used` (GPU or process) is made of: `before` the engine, `weights`, `kv`, and the `rest`.

    The rest is None where one of the others was not measured, and where the others exceed `used`: then a
    part that was set aside is not resident.
    """
    table = []
    for row in sorted(record.rows("memory", tp=tp), key=lambda r: r["rank"]):
        used, before = row.get("used_bytes"), row.get("before_bytes")
        known = {"before": before, "weights": row["weight_bytes"], "kv": row["kv_bytes"]}
        values = [value for value in known.values() if value is not None]
        rest = used - sum(values) if used is not None and len(values) == len(known) else None
        rest = None if rest is None or rest < 0 else rest
        table.append({"rank": row["rank"], **known, "rest": rest, "used": used})
    return table


def used_ratio(record: Record, tp: int) -> float | None:
    """Mean memory in use of a rank at `tp`, relative to TP=1; None without both."""
    here, one = (rank_bytes(record, size, "used_bytes") for size in (tp, 1))
    if not here or not one or None in here or None in one:
        return None
    return statistics.fmean(value for value in here if value is not None) / (one[0] or math.nan)


def about_equal(values: Sequence[float | None], within: float) -> dict[str, Any] | None:
    """ "About equal" or not: spread (max - min) / mean against `within`; None for fewer than two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    spread = (max(known) - min(known)) / statistics.fmean(known)
    return {"spread": spread, "within": within, "equal": spread <= within}


def within(record: Record) -> float:
    """The run's own threshold of "about equal", a fraction."""
    return record.config.get("equal_within", 0.05)


def capacity(record: Record) -> list[dict[str, Any]]:
    """By size: `tokens` in the KV cache of the whole engine, `ratio` to TP=1's, `kv_heads` and `kv_bytes` of
    rank 0, and `token_bytes`, what a token takes there. None where it was not measured."""
    table = []
    for tp in loaded(record):
        load = next(iter(record.rows("load", tp=tp, rank=0)), {})
        size, tokens = next(iter(rank_bytes(record, tp, "kv_bytes")), None), load.get("kv_tokens")
        row = {"tp": tp, "tokens": tokens, "kv_heads": load.get("kv_heads"), "kv_bytes": size}
        table.append({**row, "token_bytes": size / tokens if size and tokens else None})
    one = next((row["tokens"] for row in table if row["tp"] == 1), None)
    return [{**row, "ratio": row["tokens"] / one if one and row["tokens"] else None} for row in table]


def gaps(rows: Iterable[Row], name: str, against: str = REFERENCE) -> list[float]:
    """|log-probability difference| of each token between two sources; [] where one of them was not asked."""
    kept = list(rows)
    left = {row["prompt"]: row["logprobs"] for row in kinds(kept, "logprobs", source=name)}
    right = {row["prompt"]: row["logprobs"] for row in kinds(kept, "logprobs", source=against)}
    if left.keys() != right.keys():
        return []
    return [abs(a - b) for prompt in left for a, b in zip(left[prompt], right[prompt], strict=True)]


def difference(rows: Iterable[Row], name: str, against: str = REFERENCE) -> dict[str, Any]:
    """Mean and largest of `gaps`, with n tokens; infinite where there are none."""
    found = gaps(rows, name, against)
    if not found:
        return {"mean": math.inf, "max": math.inf, "n": 0}
    return {"mean": statistics.fmean(found), "max": max(found), "n": len(found)}


def tolerance(rows: Iterable[Row], factor: float) -> float:
    """The mean difference that still passes: `factor` times what bfloat16 alone costs, in nats."""
    return factor * difference(rows, NOISE)["mean"]


def run_tolerance(record: Record) -> float:
    """The tolerance of a Record's own gate, in nats."""
    return tolerance(record.samples, record.config.get("noise_factor", 3.0))


def scored(record: Record) -> list[int]:
    """The TP sizes that gave log-probabilities, ascending."""
    return sorted({row["tp"] for row in record.rows("logprobs") if row["tp"]})


def comparisons(record: Record) -> list[tuple[str, str]]:
    """Pairs (source, against) to look at: bfloat16's noise, vLLM at every size, and each size with TP=1."""
    sizes = scored(record)
    names = {row["source"] for row in record.rows("logprobs")}
    pairs = [(NOISE, REFERENCE), *((f"vLLM TP={tp}", REFERENCE) for tp in sizes)]
    pairs += [(f"vLLM TP={tp}", "vLLM TP=1") for tp in sizes if tp > 1]
    return [pair for pair in pairs if names.issuperset(pair)]


def between_sizes(record: Record) -> float | None:
    """The largest |log-probability difference| between TP=1 and the largest size, in nats."""
    largest = max(scored(record), default=1)
    found = difference(record.samples, f"vLLM TP={largest}", "vLLM TP=1") if largest > 1 else {"n": 0}
    return found["max"] if found["n"] else None


def same_tokens(record: Record, tp: int) -> tuple[int, int] | None:
    """(greedy tokens equal to TP=1's before the first difference, tokens compared) over all prompts.

    None for dummy weights, which are drawn shard by shard: no two sizes hold the same model.
    """
    if record.provenance.weights == "dummy":
        return None
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
    """The sizes that were loaded or scored, ascending."""
    return sorted({*loaded(record), *scored(record)})


def summary(record: Record) -> list[dict[str, Any]]:
    """The table that the command prints."""
    table = []
    for tp in tp_sizes(record):
        loads = record.rows("load", tp=tp)
        weights = [w for w in rank_bytes(record, tp, "weight_bytes") if w is not None]
        verdict = about_equal(weights, within(record))
        gap = difference(record.samples, f"vLLM TP={tp}")
        same = same_tokens(record, tp)
        table.append(
            {
                "TP": tp,
                "load s": start_up(record, tp)["total_s"],
                "weights MiB/rank": statistics.fmean(weights) / 2**20 if weights else None,
                "ranks about equal": "-" if verdict is None else ("yes" if verdict["equal"] else "no"),
                "KV tokens": loads[0]["kv_tokens"] if loads else None,
                "greedy tokens as TP=1": f"{same[0]}/{same[1]}" if same else None,
                "mean |Δ log p|": gap["mean"] if gap["n"] else None,
            }
        )
    return table


def card(record: Record) -> list[dict[str, Any]]:
    """The summary without the columns of parts that have not run yet, for a notebook's result card."""
    table = summary(record)
    known = {name for row in table for name, value in row.items() if value is not None}
    return [{name: value for name, value in row.items() if name in known} for row in table]
