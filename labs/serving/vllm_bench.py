"""vLLM's own benchmark client on our requests: the one adapter to `vllm.benchmarks`, written for vLLM 0.32.

    found = run_vllm_bench(server.url, server.model, requests, arrivals=poisson(100, rate=4))

It runs `vllm.benchmarks.serve.main` in a process of its own and returns the JSON that `vllm bench serve
--save-result --save-detailed` writes (`labs.serving.results` writes the same keys). Two things are put in
place of vLLM's: the list of requests, so that both clients send the same token ids, and the tokenizer, which
then has nothing to do (the server reports how many tokens it made). Arrival times are given as a timed trace.

These internals change between releases: `needs()` lists what is used, and a contract test holds it.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from labs.core import atomic
from labs.core.errors import RunFailed, UserError
from labs.serving.child import run_module
from labs.serving.results import GOODPUT_KEYS
from labs.serving.workload import Request


class BenchPlan(BaseModel):
    """What the benchmark's process needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: list[Request]
    arrivals: list[float] | None
    arguments: list[str]


def run_vllm_bench(
    url: str,
    model: str,
    requests: Sequence[Request],
    *,
    arrivals: Sequence[float] | None = None,
    rate: float | None = None,
    burstiness: float = 1.0,
    concurrency: int | None = None,
    seed: int = 0,
    warmups: int = 0,
    goodput_ms: Mapping[str, float] | None = None,
    percentiles: Sequence[float] = (50, 90, 95, 99),
    timeout_s: float = 1800.0,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run vLLM's benchmark client and return its result.

    arrivals     send request i at arrivals[i] seconds; or
    rate         let vLLM draw the arrivals itself, from `rate`, `burstiness` and `seed`; neither: all at once
    concurrency  at most so many requests under way (vLLM's --max-concurrency)
    warmups      how often the first request is sent before the run
    say          gets the lines that it prints

    Every request is greedy and ignores the end-of-sequence token. RunFailed if the client fails, or if every
    request failed.
    """
    _check(requests, arrivals, rate, goodput_ms)
    arguments = [
        *("--backend", "openai", "--base-url", url.rstrip("/"), "--endpoint", "/v1/completions"),
        *("--model", model, "--served-model-name", model, "--seed", str(seed), "--disable-tqdm"),
        *("--dataset-name", "custom" if arrivals is None else "timed_trace"),
        *("--num-prompts", str(len(requests)), "--num-warmups", str(warmups), "--save-detailed"),
        *("--temperature", "0", "--percentile-metrics", "ttft,tpot,itl,e2el" + _more(rate, concurrency)),
        *("--metric-percentiles", ",".join(f"{p:g}" for p in percentiles)),
        *("--request-rate", str(rate if rate is not None else "inf"), "--burstiness", str(burstiness)),
    ]
    if arrivals is None:
        arguments.append("--ignore-eos")  # a timed trace sets it by itself
    if concurrency is not None:
        arguments += ["--max-concurrency", str(concurrency)]
    if goodput_ms:
        arguments += ["--goodput", *(f"{key}:{limit}" for key, limit in goodput_ms.items())]
    plan = BenchPlan(
        requests=list(requests), arrivals=None if arrivals is None else list(arrivals), arguments=arguments
    )
    with tempfile.TemporaryDirectory(prefix="labs-bench-") as folder:
        plan_path, out_path = Path(folder, "plan.json"), Path(folder, "out.json")
        atomic.write_text(plan_path, plan.model_dump_json())
        run_module(
            "labs.serving.vllm_bench",
            [str(plan_path), str(out_path)],
            what="vLLM benchmark client",
            timeout_s=timeout_s,
            say=say,
            env={"VLLM_NO_USAGE_STATS": "1", **_no_proxy()},
        )
        found = json.loads(out_path.read_text(encoding="utf-8"))
    if not found["completed"]:
        reason = found["errors"][0].strip()
        last = reason.rpartition("\n")[2]
        raise RunFailed(f"all {len(requests)} requests of vLLM's benchmark client failed: {last}", reason)
    return found


def needs() -> dict[str, Any]:
    """What the adapter uses of vLLM, by name; ImportError or AttributeError if this vLLM lacks it."""
    from vllm.benchmarks import datasets, serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return {
        "add_cli_args": serve.add_cli_args,
        "main": serve.main,
        "get_samples": serve.get_samples,  # replaced: our requests
        "get_tokenizer": serve.get_tokenizer,  # replaced: none is needed
        "SampleRequest": datasets.SampleRequest,
        "parser": FlexibleArgumentParser,
    }


class NoTokenizer:
    """Stands where vLLM's client wants a tokenizer to be; it may only be there, not be used."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the server reported no usage, so vLLM's client wants to count tokens from text")


def _no_proxy() -> dict[str, str]:
    """vLLM's client goes through the environment's proxy, even to the loopback; ours does not."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    hosts = ",".join(host for host in (known, "127.0.0.1", "localhost") if host)
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def _more(rate: float | None, concurrency: int | None) -> str:
    if concurrency is None:
        return ""
    return ",client_queue_time" + (",e2el_including_client_queue" if rate is not None else "")


def _check(
    requests: Sequence[Request],
    arrivals: Sequence[float] | None,
    rate: float | None,
    goodput_ms: Mapping[str, float] | None,
) -> None:
    if not requests:
        raise UserError("a benchmark run needs at least one request, found none")
    if arrivals is not None and rate is not None:
        raise UserError("give arrivals or rate, found both")
    if arrivals is not None and len(arrivals) != len(requests):
        raise UserError(f"{len(requests)} requests need as many arrival times, found {len(arrivals)}")
    if unknown := set(goodput_ms or {}) - set(GOODPUT_KEYS):
        raise UserError(
            f"goodput limits are {', '.join(GOODPUT_KEYS)} in ms, found {', '.join(sorted(unknown))}"
        )


def main(arguments: Sequence[str]) -> None:
    """The child's side: put our requests in place, run vLLM's client, write its result."""
    plan_path, out_path = arguments
    plan = BenchPlan.model_validate_json(Path(plan_path).read_text(encoding="utf-8"))
    used = needs()
    from vllm.benchmarks import serve

    times: Sequence[float | None] = plan.arrivals or [None] * len(plan.requests)
    samples = [
        used["SampleRequest"](
            prompt=request.prompt_token_ids,
            prompt_len=len(request.prompt_token_ids),
            expected_output_len=request.max_tokens,
            timestamp=time,
            request_overrides={"priority": request.priority} if request.priority else None,
        )
        for request, time in zip(plan.requests, times, strict=True)
    ]
    vars(serve).update(
        get_samples=lambda args, tokenizer: samples,
        get_tokenizer=lambda *args, **kwargs: NoTokenizer(),
    )
    parser = used["parser"]()
    used["add_cli_args"](parser)
    found = used["main"](parser.parse_args(plan.arguments))
    atomic.write_text(out_path, json.dumps(found, default=float))


if __name__ == "__main__":
    main(sys.argv[1:])
