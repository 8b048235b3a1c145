"""The load client: sends a workload to an OpenAI-compatible server and returns one row a request.

    result = run_load(server.url, server.model, requests, arrivals=poisson(100, rate=4))    # open loop
    result = run_load(server.url, server.model, requests, concurrency=8)                    # closed loop

The sending happens in a process of its own (`python -m labs.serving.client PLAN.json OUT.json`), so neither a
notebook's event loop nor its garbage collector is in the timing, and the call may be made from anywhere.
Rows are described in labs/core/metrics.py. Latency counts from the intended send; the result says how late
the client was itself.
"""

import asyncio
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from labs.core import atomic
from labs.core.errors import RunFailed, UserError
from labs.core.metrics import Latency, lag, latency
from labs.core.record import Row
from labs.serving.child import run_module
from labs.serving.sender import Plan, execute
from labs.serving.workload import Request


class LoadResult(BaseModel, frozen=True):
    """Rows of one load run, and what the client says about itself. Times in seconds."""

    run: str
    rows: list[dict[str, Any]]  # kind "request", in the order of the requests
    warmup_rows: list[dict[str, Any]]  # the same for the warm-up, on a clock of its own
    seconds: float  # from the start of the run to the end of the last stream
    intended_rate: float | None  # requests/s that the arrival times ask for; None in a closed loop
    achieved_rate: float | None  # requests/s that were sent
    lag: Latency  # sent - intended, less the wait for a slot under a cap on concurrency
    loop_lag: Latency  # how late the client's event loop woke, sampled every 10 ms
    busy: float  # CPU time of the client's process / seconds; near 1 the client is the bottleneck
    event_loop: str  # "uvloop" or "asyncio"

    @property
    def lag_p99(self) -> float | None:
        """p99 of the client's lag, seconds; None for fewer than 100 requests."""
        return self.lag.p99

    @property
    def failed(self) -> int:
        """How many requests ended in an error."""
        return sum(row["error"] is not None for row in self.rows)

    def row(self) -> Row:
        """The client's own figures as one row of a Record, kind "client"."""
        lags = {
            f"{name}_{key}_s": value
            for name, found in (("lag", self.lag), ("loop_lag", self.loop_lag))
            for key, value in (("p50", found.median), ("p99", found.p99), ("max", found.max))
        }
        return {
            "kind": "client",
            "run": self.run,
            "requests": len(self.rows),
            "failed": self.failed,
            "seconds": self.seconds,
            "intended_rate": self.intended_rate,
            "achieved_rate": self.achieved_rate,
            **lags,
            "busy": self.busy,
            "event_loop": self.event_loop,
        }

    def line(self) -> str:
        """The client's own figures in one line."""
        rates = (
            f", {self.achieved_rate:.3g} of {self.intended_rate:.3g} requests/s sent"
            if self.intended_rate and self.achieved_rate
            else ""
        )
        return (
            f"client: {len(self.rows)} requests, {self.failed} failed{rates}; lag {lag_text(self.lag)}; "
            f"event loop late {lag_text(self.loop_lag)}; busy {self.busy:.0%} of a core"
        )


def lag_text(found: Latency) -> str:
    """`p50 0.2 ms, p99 1.1 ms, max 1.5 ms (n=200)`; a p99 that n cannot carry is not measured."""
    if found.median is None or found.max is None:
        return "not measured"
    p99 = f"{found.p99 * 1e3:.2f} ms" if found.p99 is not None else "not measured"
    return f"p50 {found.median * 1e3:.2f} ms, p99 {p99}, max {found.max * 1e3:.2f} ms (n={found.n})"


def run_load(
    url: str,
    model: str,
    requests: Sequence[Request],
    *,
    arrivals: Sequence[float] | None = None,
    concurrency: int | None = None,
    run: str = "",
    warmup: Sequence[Request] = (),
    ignore_eos: bool = True,
    request_timeout_s: float = 600.0,
    stall_timeout_s: float = 300.0,
    timeout_s: float = 1800.0,
    extra_body: Mapping[str, Any] | None = None,
    keep_ids: bool = False,
    say: Callable[[str], None] | None = print,
) -> LoadResult:
    """Send `requests` to the server at `url` ("http://127.0.0.1:8000") and wait until all have ended.

    arrivals alone     open loop: request i is sent at arrivals[i] seconds, whatever became of earlier ones
    concurrency alone  closed loop: that many workers; a request's intended send is when its worker was free.
                       A row's client is the worker, unless the workload itself names several clients
    both               open loop, at most `concurrency` requests under way; the wait for a slot is latency
    warmup             requests that are sent, and have ended, before the run's clock starts
    ignore_eos         generate max_tokens in full; a stream that ends with fewer is then an error
    stall_timeout_s    the longest silence of the server, before the first token too; request_timeout_s is
                       the longest a request may take, timeout_s the longest the whole run may take
    keep_ids           keep each request's tokens in its row as "output_ids"
    say                gets progress lines; None for silence

    A request that fails is a row with "error". UserError for a call that makes no sense; RunFailed if every
    request failed (with the first reason), if the client's process died or if `timeout_s` passed.
    """
    plan = Plan(
        url=url.rstrip("/"),
        model=model,
        run=run,
        requests=list(requests),
        warmup=list(warmup),
        arrivals=None if arrivals is None else [float(t) for t in arrivals],
        concurrency=concurrency,
        ignore_eos=ignore_eos,
        request_timeout_s=request_timeout_s,
        stall_timeout_s=stall_timeout_s,
        extra_body=dict(extra_body or {}),
        keep_ids=keep_ids,
    )
    _check(plan)
    with tempfile.TemporaryDirectory(prefix="labs-load-") as folder:
        plan_path, out_path = Path(folder, "plan.json"), Path(folder, "out.json")
        atomic.write_text(plan_path, plan.model_dump_json())
        paths = [str(plan_path), str(out_path)]
        run_module("labs.serving.client", paths, what="load client", timeout_s=timeout_s, say=say)
        out = json.loads(out_path.read_text(encoding="utf-8"))
    result = _result(plan, out)
    if result.failed == len(result.rows):
        reasons = Counter(row["error"] for row in result.rows)
        details = "\n".join(f"{count} x {reason}" for reason, count in reasons.most_common(10))
        first = result.rows[0]["error"]
        raise RunFailed(f"all {len(result.rows)} requests of the load run failed: {first}", details)
    return result


def _result(plan: Plan, out: dict[str, Any]) -> LoadResult:
    rows, last = out["rows"], max(plan.arrivals or [0.0])
    sent = max((row["sent_s"] for row in rows), default=0.0)
    return LoadResult(
        run=plan.run,
        intended_rate=len(rows) / last if last > 0 else None,
        achieved_rate=len(rows) / sent if last > 0 and sent > 0 else None,
        lag=latency([lag(row) for row in rows]),
        **out,
    )


def _check(plan: Plan) -> None:
    if not plan.url.startswith(("http://", "https://")):
        raise UserError(f"the server's url must start with http:// or https://, found {plan.url!r}")
    if not plan.requests:
        raise UserError("a load run needs at least one request, found none")
    if plan.arrivals is None and plan.concurrency is None:
        raise UserError("give arrivals (open loop) or concurrency (closed loop); found neither")
    if plan.concurrency is not None and plan.concurrency < 1:
        raise UserError(f"concurrency must be at least 1, found {plan.concurrency}")
    times = plan.arrivals
    if times is None:
        return
    if len(times) != len(plan.requests):
        raise UserError(f"{len(plan.requests)} requests need as many arrival times, found {len(times)}")
    if not all(math.isfinite(t) and t >= 0 for t in times) or times != sorted(times):
        raise UserError("arrival times must be finite, not negative and in order")


def main(arguments: Sequence[str]) -> None:
    """The child's side: read the plan, send, write the result."""
    plan_path, out_path = arguments
    plan = Plan.model_validate_json(Path(plan_path).read_text(encoding="utf-8"))
    try:
        import uvloop  # comes with vLLM; the standard loop does as well, with a little more CPU
    except ImportError:
        out = asyncio.run(execute(plan))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            out = runner.run(execute(plan))
    atomic.write_text(out_path, json.dumps(out, allow_nan=False))


if __name__ == "__main__":
    main(sys.argv[1:])
