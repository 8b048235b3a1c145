"""What a concurrency Record says: the sweep, the knee, the open loop, and the server beside the engine.

concurrent_clients.py has the run of unequal clients: fairness and its timeline.

Rows that the experiment writes:

    server   tp, ready_s
    load     run, mode ("alone", "closed", "open", "fairness", "batch", "warm-up"), concurrency, rate (offered
             requests/s), engine_queue_s (mean wait inside the engine), loop_lag_n, and the client's own
             figures: labs.serving.client.LoadResult.row
    request  labs.core.metrics describes it; token_s is whole for 64 requests of a closed loop at most, else
             it is the first and the last token
    offline  repeat, seconds, requests, output_tokens
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labs.core import metrics
from labs.core.record import Record
from labs.core.stats import Summary, percentile, summarize

Row = Mapping[str, Any]
PERCENTILES = (50, 90, 95, 99)
LATENCIES: dict[str, Callable[[Row], list[float | None]]] = {  # name -> the samples of one request, seconds
    "TTFT": lambda row: [metrics.ttft(row)],
    "TPOT": lambda row: [metrics.tpot(row)],
    "ITL": lambda row: [*metrics.itl(row)],
    "E2E": lambda row: [metrics.e2e(row)],
}
EVERY_TOKEN = 64  # requests of a closed-loop run whose tokens all keep their times


def compact(row: Row, *, every_token: bool) -> dict[str, Any]:
    """A request row as the Record keeps it: times to the microsecond, `token_s` whole or first and last."""
    times = (
        row["token_s"] if every_token or len(row["token_s"]) < 2 else [row["token_s"][0], row["token_s"][-1]]
    )
    rounded = {key: round(value, 6) for key, value in row.items() if isinstance(value, float)}
    return {**row, **rounded, "token_s": [round(value, 6) for value in times]}


def kept(rows: Sequence[Row], mode: str) -> list[dict[str, Any]]:
    """The rows of one load run as the Record keeps them: of a closed loop at most 64 requests, evenly spread,
    with every token's time. Their gaps carry a p99, and a run of hundreds of requests stays a small file."""
    step = math.ceil(len(rows) / EVERY_TOKEN)
    return [compact(row, every_token=mode == "closed" and i % step == 0) for i, row in enumerate(rows)]


def runs(record: Record) -> list[dict[str, Any]]:
    """What was sent and how late the client was, without anything that a notebook asks to predict."""
    return [
        {
            "load": load["run"],
            "loop": {"open": "open", "fairness": "open", "batch": "at once"}.get(load["mode"], "closed"),
            "requests": load["requests"],
            "failed": load["failed"],
            "sent late, p99 ms": _ms(load["lag_p99_s"]),
            "sent late, max ms": _ms(load["lag_max_s"]),
            "client woke late, max ms": _ms(load["loop_lag_max_s"]),
        }
        for load in record.rows("load")
    ]


def samples_ms(record: Record, run: str, latency: str, clock: str = "intended") -> list[float]:
    """One latency of a run's completed requests, ms. `clock` "actual" counts from when it was sent."""
    rows = metrics.completed(timed_from(record.rows("request", run=run), clock))
    return [1e3 * value for row in rows for value in LATENCIES[latency](row) if value is not None]


def timed_from(rows: Sequence[Row], clock: str) -> Sequence[Row]:
    """The rows as they are ("intended"), or with the clock started when the client did send ("actual")."""
    return rows if clock == "intended" else [{**row, "intended_s": row["sent_s"]} for row in rows]


def point(record: Record, load: Row) -> dict[str, Any]:
    """One load run: throughput in tokens/s and requests/s, median latencies in ms, and the client's lateness.

    `little` is requests/s × mean E2E, the mean number of requests inside. In a closed loop the client cannot
    be late against a schedule; there `late` is how late its event loop woke, else how late it sent.
    """
    rows = record.rows("request", run=load["run"])
    medians = {name: summarize(samples_ms(record, load["run"], name)) for name in ("TTFT", "TPOT", "E2E")}
    rate, e2e = metrics.request_throughput(rows), medians["E2E"].mean
    lag = "loop_lag" if load["mode"] in ("closed", "alone") else "lag"
    return {
        "run": load["run"],
        "mode": load["mode"],
        "concurrency": load["concurrency"],
        "rate": load["rate"],
        "tokens_per_s": metrics.output_throughput(rows),
        "requests_per_s": rate,
        "ttft_ms": medians["TTFT"],
        "tpot_ms": medians["TPOT"],
        "e2e_ms": medians["E2E"],
        "n": len(metrics.completed(rows)),
        "little": rate * e2e / 1e3 if rate is not None and e2e is not None else None,
        "engine_queue_ms": _ms(load.get("engine_queue_s")),
        "late_p99_ms": _ms(load[f"{lag}_p99_s"]),
        "late_max_ms": _ms(load[f"{lag}_max_s"]),
        "late_n": load.get("loop_lag_n") if lag == "loop_lag" else load["requests"],
    }


def sweep(record: Record, mode: str) -> list[dict[str, Any]]:
    """All points of one mode ("closed": by concurrency, "open": by offered rate), in the order measured."""
    return [point(record, load) for load in record.rows("load", mode=mode)]


def knee(record: Record) -> metrics.Knee | None:
    """The knee of the closed loop by Kleinrock's power, requests/s over median E2E."""
    points = sweep(record, "closed")
    return metrics.knee((p["concurrency"], p["requests_per_s"], p["e2e_ms"].median) for p in points)


def carried(records: Sequence[Record], modes: Sequence[str]) -> list[int]:
    """The percentiles that the requests of at least one run of these modes can carry."""
    sizes = [
        len(samples_ms(record, load["run"], "E2E"))
        for record in records
        for mode in modes
        for load in record.rows("load", mode=mode)
    ]
    return [p for p in PERCENTILES if any(percentile([0.0] * n, p) is not None for n in sizes)]


def service(
    record: Record, load: Row, ttft_ms: float, tpot_ms: float, clock: str = "intended"
) -> dict[str, Any]:
    """What an open-loop run served: offered, completed and good requests/s; p50 and p90 of TTFT in ms."""
    rows = timed_from(record.rows("request", run=load["run"]), clock)
    ttft = samples_ms(record, load["run"], "TTFT", clock)
    good = metrics.goodput(rows, ttft_s=ttft_ms / 1e3, tpot_s=tpot_ms / 1e3)
    served = metrics.request_throughput(rows)
    return {
        "run": load["run"],
        "rate": load["rate"],
        "served": served,
        "goodput": good,
        "good_share": good / served if good is not None and served else None,
        "ttft_p50_ms": percentile(ttft, 50),
        "ttft_p90_ms": percentile(ttft, 90),
        "n": len(ttft),
    }


def open_loop(
    record: Record, ttft_ms: float, tpot_ms: float, clock: str = "intended"
) -> list[dict[str, Any]]:
    """`service` of every offered rate, lowest first."""
    loads = sorted(record.rows("load", mode="open"), key=lambda load: load["rate"])
    return [service(record, load, ttft_ms, tpot_ms, clock) for load in loads]


def tp(record: Record) -> int | None:
    """The tensor-parallel size of the server."""
    return next((row["tp"] for row in record.rows("server")), None)


def batch_rates(record: Record) -> dict[str, Summary]:
    """Output tokens/s: the batch offline, the same batch through the server at once, the best closed loop."""
    runs = [load["run"] for load in record.rows("load", mode="batch")]
    server = [metrics.output_throughput(record.rows("request", run=run)) for run in runs]
    closed = [p["tokens_per_s"] for p in sweep(record, "closed") if p["tokens_per_s"] is not None]
    offline = [row["output_tokens"] / row["seconds"] for row in record.rows("offline")]
    return {
        "offline": summarize(offline),
        "server, at once": summarize(server),
        "server, closed loop": summarize([max(closed)] if closed else []),
    }


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below; None if one of them was not measured."""
    return above / below if above is not None and below else None


def summary(record: Record) -> list[dict[str, Any]]:
    """The table that the command prints: every point of both sweeps."""
    limits = {key: 1e3 * record.config[f"slo_{key[:-3]}_s"] for key in ("ttft_ms", "tpot_ms")}
    table = []
    for load in [*record.rows("load", mode="closed"), *record.rows("load", mode="open")]:
        p = point(record, load)
        table.append(
            {
                "load": p["run"],
                "requests/s offered": p["rate"] if p["mode"] == "open" else "-",
                "requests/s": p["requests_per_s"],
                "output tok/s": p["tokens_per_s"],
                "goodput": service(record, load, **limits)["goodput"],
                "TTFT ms": p["ttft_ms"].median,
                "TTFT p90": percentile(samples_ms(record, p["run"], "TTFT"), 90),
                "TPOT ms": p["tpot_ms"].median,
                "n": p["n"],
                "client late max ms": p["late_max_ms"],
            }
        )
    return table


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
