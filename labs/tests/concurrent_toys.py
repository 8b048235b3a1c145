"""Toy Records of the concurrency notebook in the exact row schema, with latencies known by hand.

Every request has 11 output tokens. Nothing outside the tests reads them; their numbers mean nothing.
"""

from collections.abc import Sequence
from typing import Any

from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.metrics import latency
from labs.core.record import Record
from labs.serving.client import LoadResult

STEM = "week5/02_concurrent_requests"
TOKENS = 11
CONFIG = {"slo_ttft_s": 0.2, "slo_tpot_s": 0.02, "max_num_seqs": 4}


def request(
    run: str, index: int, due: float, ttft: float, tpot: float, client: int = 0, late: float = 0.0
) -> dict[str, Any]:
    """One request that was due at `due`, sent `late` seconds later, and ended well."""
    times = [due + ttft + i * tpot for i in range(TOKENS)]
    return {
        "kind": "request", "run": run, "request": index, "client": client, "class": "", "input_tokens": 8,
        "max_tokens": TOKENS, "intended_s": due, "queue_s": 0.0, "error": None, "token_s": times,
        "sent_s": due + late, "finished_s": times[-1], "output_tokens": TOKENS,
    }  # fmt: skip


def load(
    run: str,
    mode: str,
    requests: Sequence[dict[str, Any]],
    concurrency: int | None = None,
    rate: float | None = None,
) -> list[dict[str, Any]]:
    """The rows of one load run, as the experiment keeps them."""
    result = LoadResult(
        run=run, rows=list(requests), warmup_rows=[], seconds=1.0, intended_rate=rate, achieved_rate=rate,
        lag=latency([row["sent_s"] - row["intended_s"] for row in requests]),
        loop_lag=latency([0.001 * (i % 5) for i in range(150)]), busy=0.1, event_loop="uvloop",
    )  # fmt: skip
    about = {"kind": "load", "mode": mode, "concurrency": concurrency, "rate": rate}
    kept = [numbers.compact(row, every_token=mode == "closed") for row in requests]
    return [{**result.row(), **about, "loop_lag_n": 150, "engine_queue_s": 0.001}, *kept]


def closed(n: int, ttft: float, tpot: float, count: int = 20) -> list[dict[str, Any]]:
    """A closed loop of n clients: request i starts when the one n before it has ended."""
    whole = ttft + (TOKENS - 1) * tpot
    rows = [request(f"concurrency={n}", i, i // n * whole, ttft, tpot, client=i % n) for i in range(count)]
    return load(rows[0]["run"], "closed", rows, concurrency=n)


def opened(factor: float, rate: float, ttft: float, growth: float, count: int = 100) -> list[dict[str, Any]]:
    """An open loop in which each request waits `growth` seconds longer than the one before it."""
    run = f"rate={factor:g}"
    rows = [request(run, i, i / rate, ttft + i * growth, 0.01, late=0.004) for i in range(count)]
    return load(run, "open", rows, rate=rate)


def clients() -> list[dict[str, Any]]:
    """Client 0 sends six at once, served one by one; clients 1 and 2 one each, behind them."""
    rows = [request("clients", i, 0.0, 0.1 + 0.2 * i, 0.01) for i in range(6)]
    rows += [request("clients", 5 + client, 0.1 * client, 1.2, 0.01, client=client) for client in (1, 2)]
    return load("clients", "fairness", rows)


def server_rows(speed: float = 1.0) -> list[dict[str, Any]]:
    """Part `server`; every latency is divided by `speed`."""
    s = 1 / speed
    alone = [request("alone", i, i * 0.2 * s, 0.1 * s, 0.01 * s) for i in range(20)]
    rows = [
        {"kind": "server", "tp": 1, "ready_s": 20.0},
        *load("warm-up", "warm-up", [request("warm-up", 0, 0.0, 0.1, 0.01)], concurrency=1),
        *load("alone", "alone", alone, concurrency=1),
        *closed(1, 0.1 * s, 0.010 * s),
        *closed(2, 0.1 * s, 0.011 * s),
        *closed(4, 0.12 * s, 0.012 * s, 40),
        *closed(8, 0.6 * s, 0.013 * s, 120),
        *opened(0.5, 5 * speed, 0.1 * s, 0.0),
        *opened(1.0, 10 * speed, 0.12 * s, 0.0),
        *opened(1.5, 15 * speed, 0.1 * s, 0.02 * s),
        *clients(),
    ]  # fmt: skip
    for repeat in range(3):
        batch = [request(f"batch {repeat}", i, 0.0, 0.1 * s, (0.01 + 0.001 * repeat) * s) for i in range(10)]
        rows += load(f"batch {repeat}", "batch", batch)
    return [{"part": "server", **row} for row in rows]


def offline_rows(speed: float = 1.0) -> list[dict[str, Any]]:
    """Part `offline`: three repeats around 550 tokens/s."""
    each = {"part": "offline", "kind": "offline", "tp": 1, "requests": 10, "input_tokens": 80}
    return [
        {**each, "repeat": i, "seconds": seconds / speed, "output_tokens": 110}
        for i, seconds in enumerate((0.19, 0.2, 0.22))
    ]


def record(rows: list[dict[str, Any]], summary: str = "CPU, 2 cores, Toy", weights: Any = "tiny") -> Record:
    """A measured Record of these rows."""
    return Record.new(
        STEM, config=CONFIG, samples=rows, seconds=60.0, weights=weights, model="toy",
        profile="cpu" if weights == "tiny" else "gpu", hardware={"summary": summary},
    )  # fmt: skip


def own() -> Record:
    """A learner's run, both parts."""
    return record([*server_rows(), *offline_rows()])


def recorded(summary: str = "1x NVIDIA H200") -> Record:
    """The same ten times as fast, recorded elsewhere."""
    return record([*server_rows(10), *offline_rows(10)], summary, "dummy").as_recorded("a toy")


def without(one: Record, **where: Any) -> Record:
    """The Record without the rows whose columns equal `where`, as if they had not been measured."""
    rows = [row for row in one.samples if any(row.get(key) != value for key, value in where.items())]
    return one.model_copy(update={"samples": rows})


def without_mode(one: Record, mode: str) -> Record:
    """The Record without the load runs of one mode and their requests."""
    names = {row["run"] for row in one.rows("load", mode=mode)}
    rows = [row for row in one.samples if row.get("run") not in names]
    return one.model_copy(update={"samples": rows})


def failing(one: Record, run: str) -> Record:
    """The Record as if every request of a run had failed before its first token."""
    broken = {"error": "the stream was cut", "token_s": [], "output_tokens": 0}
    rows = [
        {**row, **broken} if row["kind"] == "request" and row["run"] == run else row for row in one.samples
    ]
    return one.model_copy(update={"samples": rows})
