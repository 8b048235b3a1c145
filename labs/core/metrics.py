"""Latency and throughput of requests, derived from "request" rows. All functions are pure; times in seconds.

A request row (the load client writes it, the Record keeps it):

    kind          "request"
    run           label of the load run it belongs to ("concurrency=8")
    request       index in the run;   client: index of the client that sent it;   class: "short", "long", …
    input_tokens  prompt tokens;      output_tokens: tokens received (the engine's own ids, not re-tokenised)
    intended_s    when it should have been sent, seconds since the run began (open loop: the arrival time)
    sent_s        when it was sent;   lag is sent_s - intended_s
    token_s       arrival time of each output token; tokens of one stream chunk share their time
    finished_s    when the stream ended;   error: null, or one line

Latency counts from `intended_s`, so a client that falls behind shows as latency instead of hiding it
(coordinated omission; vLLM issue 54101). Definitions follow vLLM's benchmark:

    TTFT   first token - intended send
    E2E    last token - intended send
    TPOT   (E2E - TTFT) / (n_out - 1), one value a request; undefined for n_out = 1
    ITL    the gaps between successive stream chunks, pooled over requests
    goodput   requests that meet every limit / duration
    slowdown  E2E under load / E2E alone
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def completed(rows: Iterable[Row]) -> list[Row]:
    """The requests that ended without error and brought at least one token."""
    return [row for row in rows if not row.get("error") and row.get("token_s")]


def ttft(row: Row) -> float | None:
    """Time to first token, seconds from the intended send."""
    return row["token_s"][0] - row["intended_s"] if row.get("token_s") else None


def e2e(row: Row) -> float | None:
    """End-to-end latency: last token, seconds from the intended send."""
    return row["token_s"][-1] - row["intended_s"] if row.get("token_s") else None


def tpot(row: Row) -> float | None:
    """Time per output token after the first; None for a request of one token."""
    times, n = row.get("token_s") or [], row.get("output_tokens") or 0
    return (times[-1] - times[0]) / (n - 1) if times and n > 1 else None


def itl(row: Row) -> list[float]:
    """Inter-token latencies: gaps between chunks that arrived at different times."""
    times = row.get("token_s") or []
    return [b - a for a, b in itertools.pairwise(times) if b > a]


def lag(row: Row) -> float | None:
    """How late the client sent this request, seconds after the intended time."""
    return row["sent_s"] - row["intended_s"] if row.get("sent_s") is not None else None


def duration(rows: Sequence[Row]) -> float | None:
    """From the first intended send to the last token of the run."""
    done = completed(rows)
    if not done:
        return None
    return max(row["token_s"][-1] for row in done) - min(row["intended_s"] for row in rows)


def output_throughput(rows: Sequence[Row]) -> float | None:
    """Output tokens per second over the run's duration, completed requests only."""
    seconds = duration(rows)
    return sum(row["output_tokens"] for row in completed(rows)) / seconds if seconds else None


def request_throughput(rows: Sequence[Row]) -> float | None:
    """Completed requests per second."""
    seconds = duration(rows)
    return len(completed(rows)) / seconds if seconds else None


def goodput(
    rows: Sequence[Row],
    *,
    ttft_s: float | None = None,
    tpot_s: float | None = None,
    e2e_s: float | None = None,
) -> float | None:
    """Requests per second that meet every given limit (seconds). A one-token request has no TPOT to miss."""
    seconds = duration(rows)
    if not seconds:
        return None
    limits = [(ttft, ttft_s), (tpot, tpot_s), (e2e, e2e_s)]
    good = [
        row
        for row in completed(rows)
        if all(limit is None or (value := of(row)) is None or value <= limit for of, limit in limits)
    ]
    return len(good) / seconds


def slowdown(row: Row, alone_s: float) -> float | None:
    """E2E under load over the E2E of the same request alone; 1 is undisturbed."""
    value = e2e(row)
    return value / alone_s if value is not None and alone_s > 0 else None
