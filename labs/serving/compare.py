"""Does our load client measure what vLLM's own benchmark client measures?

    python -m labs.serving.compare --model tiny                                   # starts a server of its own
    python -m labs.serving.compare --model Qwen/Qwen2.5-7B-Instruct --url http://127.0.0.1:8000

Both clients send the same requests at the same Poisson arrival times to the same server, in turn (ours,
vLLM's, ours, vLLM's, …), each in a process of its own. The rate is far below what the server can do, so the
schedule sets the throughput and a difference is the client's. Both results have the same definitions
(labs/serving/results.py). The medians over the repeats must agree within 3 % on throughput and within 5 % or
2 ms on median TTFT and TPOT; exit code 1 if they do not. A server that was started elsewhere should not cache
prefixes (`--no-enable-prefix-caching`): the second client would find the prompts of the first.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from labs.cluster.hardware import resolve_profile
from labs.core.errors import RunFailed, UserError
from labs.core.metrics import Latency, lag, latency
from labs.core.paths import TINY_MODEL
from labs.core.stats import Summary, summarize
from labs.serving import arrivals, workload
from labs.serving.client import lag_text, run_load
from labs.serving.engine import EngineConfig
from labs.serving.results import vllm_json
from labs.serving.server import VllmServer
from labs.serving.vllm_bench import run_vllm_bench

WARMUPS = 4
SAFE_VOCAB = 1000  # every model of the course has at least these token ids

# key of the result, name, unit, relative tolerance, absolute tolerance: one of the two must hold
LIMITS = (
    ("output_throughput", "output throughput", "tok/s", 0.03, 0.0),
    ("request_throughput", "request throughput", "req/s", 0.03, 0.0),
    ("median_ttft_ms", "median TTFT", "ms", 0.05, 2.0),
    ("median_tpot_ms", "median TPOT", "ms", 0.05, 2.0),
)


class Line(BaseModel, frozen=True):
    """One metric as both clients found it, over the repeats."""

    name: str
    unit: str
    ours: Summary
    theirs: Summary
    ratio: float  # median of ours / median of theirs
    limit: str
    agrees: bool


class Comparison(BaseModel, frozen=True):
    """All metrics, and our client's lag over all repeats (seconds)."""

    lines: list[Line]
    lag: Latency

    @property
    def agrees(self) -> bool:
        """Whether every metric is within its limit."""
        return all(line.agrees for line in self.lines)

    def text(self) -> str:
        """The table that the command prints."""
        rows = [("", "labs client", "vLLM's client", "ratio", "limit", "")]
        for line in self.lines:
            verdict = "agrees" if line.agrees else "DIFFERS"
            ours, theirs = line.ours.text(line.unit, 4), line.theirs.text(line.unit, 4)
            rows.append((line.name, ours, theirs, f"{line.ratio:.3f}", line.limit, verdict))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        return "\n".join(
            [*(line.rstrip() for line in table), f"lag of the labs client: {lag_text(self.lag)}"]
        )


def judge(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> list[Line]:
    """Compare results under vLLM's keys, one a repeat. RunFailed if one of them lacks a figure."""
    lines = []
    for key, name, unit, relative, absolute in LIMITS:
        a, b = (summarize([result[key] for result in results]) for results in (ours, theirs))
        if a.median is None or not b.median:
            raise RunFailed(
                f"{name} was not measured by {'the labs' if a.median is None else 'the vLLM'} client"
            )
        limit = f"{relative:.0%}" + (f" or {absolute:g} {unit}" if absolute else "")
        agrees = abs(a.median - b.median) <= max(relative * b.median, absolute)
        lines.append(
            Line(
                name=name, unit=unit, ours=a, theirs=b, ratio=a.median / b.median, limit=limit, agrees=agrees
            )
        )
    return lines


def compare(
    url: str,
    model: str,
    *,
    n: int = 40,
    rate: float = 5.0,
    input_tokens: int = 64,
    output_tokens: int = 32,
    repeats: int = 3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Run both clients `repeats` times in turn against the server at `url`; RunFailed if a request fails.

    Each repeat has prompts and arrival times of its own (from `seed`), the same for both clients.
    """
    if repeats < 1:
        raise UserError(f"repeats must be at least 1, found {repeats}")
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    lags: list[float | None] = []
    for repeat in range(repeats):
        requests = workload.fixed(n, input_tokens, output_tokens, SAFE_VOCAB, seed + repeat)
        times = arrivals.poisson(n, rate, seed + repeat)
        warmup = workload.fixed(WARMUPS, input_tokens, output_tokens, SAFE_VOCAB, seed + repeats + repeat)
        result = run_load(url, model, requests, arrivals=times, warmup=warmup, run=f"{repeat}", say=None)
        if result.failed:
            reason = next(row["error"] for row in result.rows if row["error"])
            raise RunFailed(f"{result.failed} of {n} requests of the labs client failed: {reason}")
        lags += [lag(row) for row in result.rows]
        ours.append(vllm_json(result.rows, model_id=model, request_rate=rate))
        say(f"repeat {repeat + 1} of {repeats}: {_short('labs client', ours[-1])}")
        theirs.append(run_vllm_bench(url, model, requests, arrivals=times, warmups=WARMUPS))
        if theirs[-1]["failed"]:
            raise RunFailed(f"{theirs[-1]['failed']} of {n} requests of vLLM's benchmark client failed")
        say(f"repeat {repeat + 1} of {repeats}: {_short('vLLM client', theirs[-1])}")
    return Comparison(lines=judge(ours, theirs), lag=latency(lags))


def server_config(model: str, profile: str, weights: str, tokens: int) -> EngineConfig:
    """A server for `model`: "tiny", a folder or a hub name; `tokens` is the longest request."""
    path = TINY_MODEL if model == "tiny" else Path(model)
    settings = {
        "model_path": str(path) if path.is_dir() else model,
        "weights": "tiny" if model == "tiny" else weights,
        "has_tokenizer": not path.is_dir() or (path / "tokenizer.json").exists(),
        "profile": resolve_profile(profile),
        "max_model_len": max(2048, tokens),
    }
    return EngineConfig.model_validate(settings)


def _short(who: str, found: dict[str, Any]) -> str:
    return (
        f"{who}: {found['output_throughput']:.1f} tok/s, median TTFT {found['median_ttft_ms']:.2f} ms, "
        f"median TPOT {found['median_tpot_ms']:.3f} ms (n={found['completed']})"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m labs.serving.compare",
        description="Run our load client and vLLM's own in turn on one server, and say whether they agree.",
    )
    parser.add_argument(
        "--model", required=True, help="tiny, a local folder or a hub name; with --url, its served name"
    )
    parser.add_argument("--url", help="a running server, such as http://127.0.0.1:8000 (default: start one)")
    parser.add_argument("--profile", default="auto", help="cpu, gpu or auto (default: what the machine has)")
    parser.add_argument(
        "--weights", choices=("real", "dummy"), default="real", help="for a server of its own"
    )
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second (default: 5)")
    parser.add_argument("--requests", type=int, default=40, help="requests in each run (default: 40)")
    parser.add_argument("--input-tokens", type=int, default=64, help="prompt tokens (default: 64)")
    parser.add_argument("--output-tokens", type=int, default=32, help="output tokens (default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each client (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of prompts and arrivals (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """0 if the clients agree, 1 if they do not or a run failed, 2 for a mistake in the call."""
    given = _parser().parse_args(argv)
    try:
        with contextlib.ExitStack() as stack:
            url, model = given.url, given.model
            if url is None:
                tokens = given.input_tokens + given.output_tokens
                config = server_config(model, given.profile, given.weights, tokens)
                server = stack.enter_context(VllmServer(config))
                url, model = server.url, server.model
            found = compare(
                url,
                model,
                n=given.requests,
                rate=given.rate,
                input_tokens=given.input_tokens,
                output_tokens=given.output_tokens,
                repeats=given.repeats,
                seed=given.seed,
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(error.details.rstrip(), f"failed: {error}", sep="\n", file=sys.stderr)
        return 1
    print(found.text())
    return 0 if found.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
