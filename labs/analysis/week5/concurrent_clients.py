"""What a concurrency Record says about its run of unequal clients: slowdowns, fairness, and a timeline."""

from typing import Any

from labs.analysis.week5.concurrent_requests import LATENCIES
from labs.core import metrics
from labs.core.record import Record
from labs.core.stats import jain, summarize

BURST = 0  # the client that sends all its requests at once


def alone_s(record: Record) -> float | None:
    """Median E2E of a request that has the server for itself, in seconds."""
    done = metrics.completed(record.rows("request", run="alone"))
    return summarize([metrics.e2e(row) for row in done]).median


def by_client(record: Record, latency: str = "slowdown") -> dict[int, list[float]]:
    """Slowdown (no unit), or one of LATENCIES in ms, of each request in the run of unequal clients."""
    base, found = alone_s(record), dict[int, list[float]]()
    for row in metrics.completed(record.rows("request", run="clients")):
        if latency == "slowdown":
            values = [metrics.slowdown(row, base)] if base else []
        else:
            values = [None if value is None else 1e3 * value for value in LATENCIES[latency](row)]
        found.setdefault(row["client"], []).extend(value for value in values if value is not None)
    return {client: found[client] for client in sorted(found) if found[client]}


def fairness(record: Record) -> dict[str, Any] | None:
    """The run of unequal clients: slowdowns by client, their spread, and Jain's index over 1/slowdown.

    `spread` is the greatest median slowdown of a client over the least, `polite_over_burst` the median
    slowdown of the others' requests over that of the client with the burst, `burst_share` the part of all
    output tokens that the burst got.
    """
    base, rows = alone_s(record), metrics.completed(record.rows("request", run="clients"))
    values = by_client(record)
    if base is None or not values:
        return None
    polite = summarize([value for client in values if client != BURST for value in values[client]]).median
    burst = summarize(values.get(BURST, [])).median
    summaries = {client: summarize(found) for client, found in values.items()}
    tokens = {
        client: sum(row["output_tokens"] for row in rows if row["client"] == client) for client in values
    }
    return {
        "clients": summaries,
        "jain_requests": metrics.fairness(rows, {row.get("class") or "": base for row in rows}),
        "jain_clients": jain([1 / s.median for s in summaries.values() if s.median]),
        "spread": metrics.spread_by_client(rows, lambda row: metrics.slowdown(row, base)).ratio,
        "polite_over_burst": polite / burst if polite and burst else None,
        "burst_share": tokens.get(BURST, 0) / sum(tokens.values()),
        "n": len(rows),
    }


def timeline(record: Record) -> list[dict[str, Any]]:
    """Each completed request of the run of unequal clients: client, and due, first and last token in s."""
    rows = metrics.completed(record.rows("request", run="clients"))
    return [
        {
            "client": row["client"],
            "request": row["request"],
            "due_s": row["intended_s"],
            "first_s": row["token_s"][0],
            "last_s": row["token_s"][-1],
        }
        for row in sorted(rows, key=lambda row: (row["intended_s"], row["request"]))
    ]
