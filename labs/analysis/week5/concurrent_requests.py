"""What a concurrency Record says: the sweep, the knee, fairness, and the server beside the offline engine.

Rows that the experiment writes:

    server   tp, ready_s
    load     run, mode ("alone", "closed", "open", "fairness", "batch", "warm-up"), concurrency, rate (offered
             requests/s), and the client's own figures: labs.serving.client.LoadResult.row
    request  labs.core.metrics describes it
    offline  repeat, seconds, requests, output_tokens
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from labs.core import metrics
from labs.core.record import Record
from labs.core.stats import Summary, jain, percentile, summarize

Row = Mapping[str, Any]


def describe(rows: Sequence[Row]) -> str:
    """One line of progress: throughput and median TTFT."""
    rate, ttft = (
        metrics.output_throughput(rows),
        summarize([metrics.ttft(r) for r in metrics.completed(rows)]),
    )
    if rate is None or ttft.median is None:
        return "no request completed"
    return f"{rate:,.0f} output tok/s, median TTFT {ttft.median * 1e3:.1f} ms (n={ttft.n})"


def point(record: Record, load: Row) -> dict[str, Any]:
    """One load run as a point of a sweep: throughput in tokens/s and requests/s, latencies in ms with n."""
    rows = record.rows("request", run=load["run"])
    done = metrics.completed(rows)
    ttft_ms = [1e3 * value for row in done if (value := metrics.ttft(row)) is not None]
    tpot_ms = [1e3 * value for row in done if (value := metrics.tpot(row)) is not None]
    limits = {"ttft_s": record.config["slo_ttft_s"], "tpot_s": record.config["slo_tpot_s"]}
    return {
        "run": load["run"],
        "mode": load["mode"],
        "concurrency": load["concurrency"],
        "rate": load["rate"],
        "tokens_per_s": metrics.output_throughput(rows),
        "requests_per_s": metrics.request_throughput(rows),
        "goodput": metrics.goodput(rows, **limits),
        "ttft_ms": summarize(ttft_ms),
        "ttft_p90_ms": percentile(ttft_ms, 90),
        "tpot_ms": summarize(tpot_ms),
        "tpot_p90_ms": percentile(tpot_ms, 90),
        "e2e_ms": summarize([1e3 * value for row in done if (value := metrics.e2e(row)) is not None]),
        "n": len(done),
        "lag_p99_s": load["lag_p99_s"],
        "lag_max_s": load["lag_max_s"],
    }


def sweep(record: Record, mode: str) -> list[dict[str, Any]]:
    """All points of one mode ("closed": by concurrency, "open": by offered rate), in the order measured."""
    return [point(record, load) for load in record.rows("load", mode=mode)]


def knee(points: Sequence[Mapping[str, Any]], share: float = 0.9) -> Mapping[str, Any] | None:
    """The knee of a closed-loop sweep: the lowest concurrency with `share` of the best throughput.

    Past it more clients buy little throughput and pay in latency.
    """
    known = [p for p in points if p["tokens_per_s"] is not None]
    if not known:
        return None
    best = max(p["tokens_per_s"] for p in known)
    return min((p for p in known if p["tokens_per_s"] >= share * best), key=lambda p: p["concurrency"])


def alone_s(record: Record) -> float | None:
    """Median E2E of a request that has the server for itself, in seconds."""
    return summarize(
        [metrics.e2e(row) for row in metrics.completed(record.rows("request", run="alone"))]
    ).median


def fairness(record: Record) -> dict[str, Any] | None:
    """Slowdowns of the run of unequal clients: by client, and Jain's index over 1/slowdown."""
    base, rows = alone_s(record), metrics.completed(record.rows("request", run="clients"))
    if base is None or not rows:
        return None
    by_client: dict[int, list[float]] = {}
    for row in rows:
        value = metrics.slowdown(row, base)
        if value is not None:
            by_client.setdefault(row["client"], []).append(value)
    means = {client: statistics.fmean(values) for client, values in sorted(by_client.items())}
    every = [1 / value for values in by_client.values() for value in values]
    return {
        "clients": {client: summarize(values) for client, values in sorted(by_client.items())},
        "jain_requests": jain(every),
        "jain_clients": jain([1 / value for value in means.values()]),
        "spread": max(means.values()) / min(means.values()),
        "n": len(every),
    }


def batch_rates(record: Record) -> dict[str, Summary]:
    """Output tokens/s of the same batch: through the server at once, and offline without one."""
    server = [
        metrics.output_throughput(record.rows("request", run=r["run"]))
        for r in record.rows("load", mode="batch")
    ]
    offline = [row["output_tokens"] / row["seconds"] for row in record.rows("offline")]
    return {"server": summarize(server), "offline": summarize(offline)}


def summary(record: Record) -> list[dict[str, Any]]:
    """The table that the command prints: every point of both sweeps."""
    table = []
    for p in [*sweep(record, "closed"), *sweep(record, "open")]:
        table.append(
            {
                "load": p["run"],
                "requests/s offered": p["rate"] if p["mode"] == "open" else "-",
                "requests/s": p["requests_per_s"],
                "output tok/s": p["tokens_per_s"],
                "goodput": p["goodput"],
                "TTFT ms": p["ttft_ms"].median,
                "TTFT p90": p["ttft_p90_ms"],
                "TPOT ms": p["tpot_ms"].median,
                "n": p["n"],
                "lag max ms": p["lag_max_s"] * 1e3 if p["lag_max_s"] is not None else None,
            }
        )
    return table
