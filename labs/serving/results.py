"""Request rows as the JSON that vLLM's benchmark writes, so that tools made for the one read the other.

Keys, units and definitions are those of `vllm bench serve --save-result --save-detailed` (vLLM 0.32), which
differ from labs/core/metrics.py in two points: `ttfts` and `latencies` count from the actual send, and what
passed before it stands in `queue_times`; `duration` counts from the start of the run, not from the first
arrival. The rest follows the workbook's rules: a percentile that n cannot carry is null, and so is what was
not measured (per-request values of failed requests, the text, `rtfx`), where vLLM writes 0 or "".
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from labs.core.errors import UserError
from labs.core.metrics import Row, completed, itl, tpot
from labs.core.stats import percentile

GOODPUT_KEYS = ("ttft", "tpot", "e2el")


def vllm_json(
    rows: Sequence[Row],
    *,
    model_id: str,
    request_rate: float | None = None,
    burstiness: float = 1.0,
    max_concurrency: int | None = None,
    goodput_ms: Mapping[str, float] | None = None,
    percentiles: Sequence[float] = (50, 90, 95, 99),
    label: str | None = None,
    date: datetime | None = None,
) -> dict[str, Any]:
    """One load run's rows under vLLM's keys.

    request_rate None is "inf" (closed loop, or all at once). goodput_ms: limits in milliseconds under the
    keys ttft, tpot, e2el. In a closed loop a request exists from the moment in which its worker is free, so
    its queue time is about 0; vLLM's client counts from the start of the run.
    """
    unknown = set(goodput_ms or {}) - set(GOODPUT_KEYS)
    if unknown:
        raise UserError(
            f"goodput limits are {', '.join(GOODPUT_KEYS)} in ms, found {', '.join(sorted(unknown))}"
        )
    done = completed(rows)
    good = {id(row) for row in done}
    seconds = max((row["finished_s"] for row in rows), default=None)
    n_in = sum(row["input_tokens"] for row in done)
    n_out = sum(row["output_tokens"] for row in done)

    def rate(count: float) -> float | None:
        return count / seconds if seconds else None

    def each(of: Any) -> list[Any]:
        return [of(row) if id(row) in good else None for row in rows]

    found = {
        "date": (date or datetime.now()).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai",
        "backend": "openai",
        "label": label,
        "model_id": model_id,
        "tokenizer_id": None,  # token ids in and out
        "num_prompts": len(rows),
        "request_rate": "inf" if request_rate is None or math.isinf(request_rate) else request_rate,
        "burstiness": burstiness,
        "max_concurrency": max_concurrency,
        "duration": seconds,
        "completed": len(done),
        "failed": len(rows) - len(done),
        "total_input_tokens": n_in,
        "total_output_tokens": n_out,
        "request_throughput": rate(len(done)),
        "request_goodput": rate(_good(done, goodput_ms)) if goodput_ms else None,
        "output_throughput": rate(n_out),
        "total_token_throughput": rate(n_in + n_out),
        "input_lens": [row["input_tokens"] for row in rows],
        "output_lens": [row["output_tokens"] if id(row) in good else 0 for row in rows],
        "ttfts": each(_ttft),
        "itls": each(itl),
        "latencies": each(_latency),
        "start_times": [row["sent_s"] for row in rows],
        "queue_times": [_queued(row) for row in rows],
        "generated_texts": [None] * len(rows),
        "errors": [row["error"] or "" for row in rows],
        "max_output_tokens_per_s": _busiest_second(done),
        "max_concurrent_requests": _most_concurrent(done),
        "rtfx": None,  # audio only
    }
    samples = {
        "ttft": [_ttft(row) for row in done],
        "tpot": [value for row in done if (value := tpot(row)) is not None],
        "itl": [gap for row in done for gap in itl(row)],
        "e2el": [_latency(row) for row in done],
    }
    if max_concurrency is not None:
        samples["client_queue_time"] = [_queued(row) for row in done]
        if found["request_rate"] != "inf":
            samples["e2el_including_client_queue"] = [_queued(row) + _latency(row) for row in done]
    for name, values in samples.items():
        found |= _figures(name, values, percentiles)
    return found


def _figures(name: str, seconds: Sequence[float], percentiles: Sequence[float]) -> dict[str, float | None]:
    """mean, median, std and percentiles in milliseconds; std over the population, as vLLM has it."""
    ms = [1000 * x for x in seconds]
    figures: dict[str, float | None] = {
        f"mean_{name}_ms": statistics.fmean(ms) if ms else None,
        f"median_{name}_ms": statistics.median(ms) if ms else None,
        f"std_{name}_ms": statistics.pstdev(ms) if ms else None,
    }
    for p in percentiles:
        figures[f"p{int(p) if int(p) == p else p}_{name}_ms"] = percentile(ms, p)
    return figures


def _ttft(row: Row) -> float:
    return row["token_s"][0] - row["sent_s"]


def _latency(row: Row) -> float:
    return row["token_s"][-1] - row["sent_s"]


def _queued(row: Row) -> float:
    return row["sent_s"] - row["intended_s"]


def _good(done: Iterable[Row], limits_ms: Mapping[str, float]) -> int:
    """How many meet every limit; a request of one token has a TPOT of 0 here, as in vLLM."""

    def meets(row: Row) -> bool:
        found = {"ttft": _ttft(row), "tpot": tpot(row) or 0.0, "e2el": _latency(row)}
        return all(1000 * found[key] <= limit for key, limit in limits_ms.items())

    return sum(meets(row) for row in done)


def _busiest_second(done: Sequence[Row]) -> float | None:
    """Most output tokens in one second, counted from the first send; every token of a chunk counts."""
    if not done:
        return None
    began = min(row["sent_s"] for row in done)
    seconds = [int(t - began) for row in done for t in row["token_s"]]
    return float(max(seconds.count(second) for second in set(seconds)))


def _most_concurrent(done: Sequence[Row]) -> int | None:
    """Most requests under way in one such second; one that ends as another begins counts beside it."""
    if not done:
        return None
    began = min(row["sent_s"] for row in done)
    active: dict[int, int] = {}
    for row in done:
        for second in range(int(row["sent_s"] - began), int(row["token_s"][-1] - began) + 1):
            active[second] = active.get(second, 0) + 1
    return max(active.values())
