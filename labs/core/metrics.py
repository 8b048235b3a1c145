"""Latency and throughput of requests, derived from "request" rows. All functions are pure; times in seconds.

A request row (the load client writes it, the Record keeps it):

    kind          "request"
    run           label of the load run it belongs to ("concurrency=8")
    request       index in the run;   client: index of the client that sent it;   class: "short", "long", …
    input_tokens  prompt tokens;      output_tokens: tokens received (the engine's own ids, not re-tokenised)
    intended_s    when it should have been sent, seconds since the run began (open loop: the arrival time)
    sent_s        when it was sent;   queue_s: of sent_s - intended_s, the wait for a free slot under a cap on
                  concurrency (0 without a cap); what is left is the client's own lag
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

A chunk is what one read from the socket brought. Two events in one read have one arrival time and no gap
between them, where vLLM's client counts a gap of some microseconds.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from labs.core.stats import Summary, jain, percentile, summarize

Row = Mapping[str, Any]


class Latency(Summary, frozen=True):
    """Summary of latencies in seconds, with the percentiles that n can carry; the others are None."""

    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


class ClientSpread(BaseModel, frozen=True):
    """How far the clients' medians lie apart: each client's Summary, and greatest median over least."""

    clients: dict[int, Summary]
    ratio: float | None = None  # None for fewer than two clients


class Knee(BaseModel, frozen=True):
    """The point of a sweep with the greatest power. `inside` is False if it is the sweep's first or last."""

    index: int  # in the points sorted by load
    load: float
    throughput: float
    latency: float
    power: float
    inside: bool


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
    """Inter-token latencies: gaps between chunks that arrived at different times.

    Empty for a row that keeps the first and the last token's time alone.
    """
    times = row.get("token_s") or []
    if len(times) != row.get("output_tokens"):
        return []
    return [b - a for a, b in itertools.pairwise(times) if b > a]


def lag(row: Row) -> float | None:
    """How late the client itself was: seconds from intended to actual send, less the wait for a slot."""
    if row.get("sent_s") is None:
        return None
    return row["sent_s"] - row["intended_s"] - (row.get("queue_s") or 0.0)


def latency(samples: Sequence[float | None]) -> Latency:
    """Median, spread and percentiles of samples in seconds; None entries do not count."""
    p90, p95, p99 = (percentile(samples, p) for p in (90, 95, 99))
    return Latency(**summarize(samples).model_dump(), p90=p90, p95=p95, p99=p99)


def latency_summary(rows: Iterable[Row]) -> dict[str, Latency]:
    """TTFT, TPOT, ITL and E2E of the completed requests, keys "ttft", "tpot", "itl", "e2e".

    n is the number of requests, for ITL the number of gaps over all requests.
    """
    done = completed(rows)
    return {
        "ttft": latency([ttft(row) for row in done]),
        "tpot": latency([tpot(row) for row in done]),
        "itl": latency([gap for row in done for gap in itl(row)]),
        "e2e": latency([e2e(row) for row in done]),
    }


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


def slowdowns(rows: Iterable[Row], alone_s: Mapping[str, float]) -> list[float]:
    """Slowdown of each completed request; `alone_s` holds the E2E alone of each class (seconds)."""
    done = completed(rows)
    missing = {row.get("class") or "" for row in done} - set(alone_s)
    if missing:
        raise ValueError(f"no E2E alone for class {', '.join(map(repr, sorted(missing)))}")
    values = (slowdown(row, alone_s[row.get("class") or ""]) for row in done)
    return [value for value in values if value is not None]


def fairness(rows: Iterable[Row], alone_s: Mapping[str, float]) -> float | None:
    """Jain's index over 1/slowdown, the share of its undisturbed speed that each request got.

    Raw latencies would call a long request treated unfairly for being long. None without a completed request.
    """
    return jain([1 / value for value in slowdowns(rows, alone_s) if value > 0])


def spread_by_client(rows: Iterable[Row], of: Callable[[Row], float | None] = e2e) -> ClientSpread:
    """Summary of a metric (ttft, tpot, e2e) for each client, and greatest median over least."""
    by_client: dict[int, list[float | None]] = {}
    for row in completed(rows):
        by_client.setdefault(row["client"], []).append(of(row))
    clients = {client: summarize(by_client[client]) for client in sorted(by_client)}
    medians = [s.median for s in clients.values() if s.median is not None]
    ratio = max(medians) / min(medians) if len(medians) > 1 and min(medians) > 0 else None
    return ClientSpread(clients=clients, ratio=ratio)


def knee(points: Iterable[tuple[float, float | None, float | None]]) -> Knee | None:
    """The knee of a sweep of (load, throughput, latency): where throughput / latency is greatest.

    This ratio is Kleinrock's "power". Below the knee more load brings more throughput for little latency,
    above it more latency for little throughput. The lowest load wins a tie. Points that were not measured do
    not count; fewer than three give None. If the greatest power is at an end of the sweep (`inside` False),
    the knee may lie beyond it: say so, or sweep further.
    Source: Kleinrock, Power and deterministic rules of thumb, ICC 1979.
    """
    measured = sorted((load, x, t) for load, x, t in points if x is not None and t is not None and t > 0)
    if len(measured) < 3:
        return None
    index = max(range(len(measured)), key=lambda i: (measured[i][1] / measured[i][2], -i))
    load, throughput, seconds = measured[index]
    return Knee(
        index=index,
        load=load,
        throughput=throughput,
        latency=seconds,
        power=throughput / seconds,
        inside=0 < index < len(measured) - 1,
    )
