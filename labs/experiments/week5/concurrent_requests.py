"""Week 5, notebook 02: what happens when many clients ask at once?

`server` starts one real vLLM server and sends it real streaming requests: each request alone, a closed loop
at growing concurrency, an open loop (Poisson arrivals) at growing shares of the capacity just found, a run of
unequal clients for fairness, and one batch at once. `offline` hands that batch to an engine without a server.
Both count the engine's own token ids.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.config import ExperimentConfig
from labs.core.errors import RunFailed
from labs.core.metrics import completed, request_throughput
from labs.core.record import Gate
from labs.experiments import engines
from labs.experiments.base import Experiment, Part, Say
from labs.model import source
from labs.serving import arrivals, workload
from labs.serving.client import LoadResult, run_load
from labs.serving.server import VllmServer
from labs.serving.workload import Request

RANKS = "labs.experiments.week5.concurrent_ranks"
QUEUE_TIME = "vllm:request_queue_time_seconds"  # from a request's arrival in the engine to its first step
DRILL_REQUESTS = 8


class Config(ExperimentConfig):
    """Settings of the concurrent-requests experiment."""

    tp: tuple[int, ...] | None = None  # the server runs at the largest; None: the profile's `server_tp`
    server_tp: int = Field(default=1, ge=1)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=2)
    concurrency: tuple[PositiveInt, ...] = Field(
        min_length=2
    )  # closed loop: clients that each wait for their answer
    rounds: int = Field(ge=1)  # requests a client sends at each concurrency
    minimum_requests: int = Field(default=16, ge=1)  # a point of few clients still needs samples
    load_factors: tuple[PositiveFloat, ...] = Field(
        min_length=1
    )  # open loop: offered rate over the capacity found
    open_seconds: float = Field(gt=0)  # how long each rate is offered,
    open_requests: int = Field(ge=2)  # and the fewest requests that it is offered for
    greedy_requests: int = Field(ge=1)  # fairness: one client sends all of these at once,
    polite_clients: int = Field(ge=1)  # while so many others
    polite_requests: int = Field(ge=1)  # send so many each, evenly spread over the time that the burst needs
    max_num_seqs: int = Field(ge=1)  # the most requests that the scheduler runs at a time
    batch_requests: int = Field(
        ge=1
    )  # the batch that goes through the server at once, and to the engine offline
    offline_repeats: int = Field(ge=1)
    slo_ttft_s: float = Field(gt=0)
    slo_tpot_s: float = Field(gt=0)
    timeout_s: float = Field(default=900, gt=0, allow_inf_nan=False)  # the server's start, or one load run


def prepare(config: Config) -> Config:
    """Fix the server's TP size, or refuse one that the model or the machine cannot run."""
    asked = (max(config.tp),) if config.tp else (config.server_tp,)
    return config.model_copy(update={"tp": engines.tp_sizes(config, asked)})


def measure_server(config: Config, say: Say) -> Part:
    """One server, five kinds of load: rows `server`, `load` and `request`."""
    model = source.resolve(config.model)
    engine = engines.engine_config(config, model, _tp(config), max_num_seqs=config.max_num_seqs)
    with VllmServer(engine, say=say, timeout=config.timeout_s) as server:
        loads = _Loads(server, say, config.timeout_s)
        loads.run("warm-up", "warm-up", _requests(config, model, 8, salt=1), concurrency=8)
        loads.run("alone", "alone", _requests(config, model, config.minimum_requests, salt=2), concurrency=1)
        best = 0.0
        for n in config.concurrency:
            count = max(config.minimum_requests, n * config.rounds)
            requests = _requests(config, model, count, salt=n)
            done = loads.run(f"concurrency={n}", "closed", requests, concurrency=n)
            best = max(best, request_throughput(done.rows) or 0.0)
        for factor in config.load_factors:
            rate = factor * best
            count = max(config.open_requests, round(rate * config.open_seconds))
            sends = arrivals.poisson(count, rate, config.seed + round(100 * factor))
            requests = _requests(config, model, count, salt=3)
            loads.run(f"rate={factor:g}", "open", requests, arrivals=sends, rate=rate)
        requests, sends = _unequal(config, model, best)
        loads.run("clients", "fairness", requests, arrivals=sends)
        batch = _requests(config, model, config.batch_requests, salt=4)
        for repeat in range(config.offline_repeats):
            loads.run(f"batch {repeat}", "batch", batch, arrivals=arrivals.at_once(len(batch)))
    rows = [{"kind": "server", "tp": engine.tp, "ready_s": server.ready_seconds}, *loads.rows]
    return Part(rows=rows, gates=[_complete_gate(rows)])


class _Loads:
    """The load runs of one server, and their rows."""

    def __init__(self, server: VllmServer, say: Say, timeout: float) -> None:
        self.server, self.say, self.timeout = server, say, timeout
        self.rows: list[dict[str, Any]] = []

    def run(
        self, run: str, mode: str, requests: list[Request], rate: float | None = None, **how: Any
    ) -> LoadResult:
        """Send the requests and keep their rows; what it says gives away nothing that is to be predicted."""
        before = self.server.metrics()
        result = run_load(
            self.server.url, self.server.model, requests, run=run, say=None, timeout_s=self.timeout, **how
        )
        about = {
            "mode": mode,
            "concurrency": how.get("concurrency"),
            "rate": rate,
            "loop_lag_n": result.loop_lag.n,
            "engine_queue_s": _mean_queue(before, self.server.metrics()),
        }
        self.rows.append({**result.row(), "kind": "load", **about})
        self.rows += numbers.kept(result.rows, mode)
        late = (result.loop_lag.max or 0.0) * 1e3
        failed = f", {result.failed} FAILED" if result.failed else ""
        self.say(
            f"{run}: {len(result.rows)} requests ended{failed}; the client woke {late:.1f} ms late at most"
        )
        return result


def measure_offline(config: Config, say: Say) -> Part:
    """The same batch of requests, handed to an engine without a server: rows `offline`."""
    model = source.resolve(config.model)
    engine = engines.engine_config(config, model, _tp(config), max_num_seqs=config.max_num_seqs)
    batch = _requests(config, model, config.batch_requests, salt=4)
    say(f"offline engine at TP={engine.tp}: {len(batch)} requests at once")
    rows = engines.run_ranks(
        f"{RANKS}:offline",
        engine,
        {
            "requests": [request.model_dump(mode="json") for request in batch],
            "repeats": config.offline_repeats,
        },
        timeout=config.timeout_s,
        name="offline",
    )[0]
    return Part(rows=rows)


def drill_dead_server(config: Config, say: Say) -> str:
    """The engine is killed while answers stream: what do the clients see, and what does the server do?"""
    config = prepare(config)
    model = source.resolve(config.model)
    engine = engines.engine_config(config, model, _tp(config), max_num_seqs=config.max_num_seqs)
    long = engine.max_model_len - config.input_tokens
    requests = _requests(config, model, DRILL_REQUESTS, salt=5, output_tokens=long)
    with VllmServer(engine, say=say, timeout=config.timeout_s) as server:
        killer = threading.Thread(target=_kill_when_busy, args=(server, say), daemon=True)
        killer.start()
        try:
            result = run_load(
                server.url,
                server.model,
                requests,
                run="drill",
                concurrency=len(requests),
                say=None,
                timeout_s=config.timeout_s,
            )
        except RunFailed as error:
            return f"{error}. {_end_of(server)}"
    failed = [row["error"] for row in result.rows if row["error"]]
    if not failed:
        raise RunFailed("the drill was to kill the engine under load, and every request still ended well")
    return f"{len(failed)} of {len(result.rows)} requests failed: {failed[0]}"


def _kill_when_busy(server: VllmServer, say: Say) -> None:
    """Kill the engine's process as soon as all requests of the drill are running."""
    while server.metrics().get("vllm:num_requests_running", 0) < DRILL_REQUESTS:
        time.sleep(0.02)
    time.sleep(0.2)  # every stream has brought tokens
    say("answers are streaming: killing the engine")
    server.kill("engine")


def _end_of(server: VllmServer, seconds: float = 20.0) -> str:
    """How the server ended after its engine was killed, in one sentence."""
    deadline = time.monotonic() + seconds
    while (failure := server.failure()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return (
        f"Then {failure}"
        if failure
        else f"The HTTP server without an engine still listened {seconds:g} s later"
    )


def _mean_queue(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Mean seconds that requests waited inside the engine between two readings; None if it does not say."""
    total, count = (
        after.get(f"{QUEUE_TIME}_{k}", 0.0) - before.get(f"{QUEUE_TIME}_{k}", 0.0) for k in ("sum", "count")
    )
    return total / count if count else None


def _tp(config: Config) -> int:
    assert config.tp is not None  # prepare() has fixed it
    return config.tp[0]


def _requests(config: Config, model: source.ModelSource, n: int, salt: int, **changes: Any) -> list[Request]:
    settings = {"input_tokens": config.input_tokens, "output_tokens": config.output_tokens, **changes}
    return workload.fixed(n, vocab=model.config["vocab_size"], seed=1000 * config.seed + salt, **settings)


def _unequal(config: Config, model: source.ModelSource, capacity: float) -> tuple[list[Request], list[float]]:
    """Client 0 bursts; clients 1.. send evenly while the burst drains (`capacity` requests/s)."""
    drain = config.greedy_requests / capacity
    sends = [(0.0, 0)] * config.greedy_requests + [
        (drain * (turn + 0.5) / config.polite_requests, client)
        for client in range(1, config.polite_clients + 1)
        for turn in range(config.polite_requests)
    ]
    sends.sort()
    requests = _requests(config, model, len(sends), salt=6)
    named = [r.model_copy(update={"client": c}) for r, (_, c) in zip(requests, sends, strict=True)]
    return named, [at for at, _ in sends]


def _complete_gate(rows: Sequence[Mapping[str, Any]]) -> Gate:
    """Every request must end without error and with all its tokens."""
    requests = [row for row in rows if row["kind"] == "request"]
    bad = len(requests) - len(completed(requests))  # a stream that brings fewer tokens ends in an error
    return Gate(
        name="every request ended with all its tokens",
        passed=bad == 0,
        value=float(bad),
        tolerance=0.0,
        detail=f"{len(requests)} requests",
    )


EXPERIMENT = Experiment(
    stem="week5/02_concurrent_requests",
    command="concurrent",
    help="Streaming clients against a real server: throughput, latency, the knee, fairness, offline batch.",
    config=Config,
    parts={"server": measure_server, "offline": measure_offline},
    drills={"dead_server": drill_dead_server},
    summary=numbers.summary,
    card=numbers.runs,
    prepare=prepare,
)
