"""What runs in each rank of the scaling benchmark: open, time the loads, count and time the messages."""

import os
import signal
import time
from typing import Any

from labs.cluster.rank import RankContext
from labs.core.record import Row

COPY_BYTES = {"cuda": 1 << 31, "cpu": 1 << 28}  # far above every cache, so that the copy measures memory


def measure(ctx: RankContext) -> list[Row]:
    """Rows `load`, `generate` (rank 0), `collectives`, `all_reduce` and `bandwidth` (rank 0) of this rank."""
    began = time.perf_counter()
    import vllm  # noqa: F401  (timed apart: the import is a large part of a cold start)

    imported = time.perf_counter()
    from labs.experiments.week5.scaling_benchmark import Config
    from labs.serving import collectives, shards
    from labs.serving.engine import EngineConfig, open_engine

    config = Config.model_validate(ctx.config["experiment"])
    engine = EngineConfig.model_validate(ctx.config["engine"])
    llm = open_engine(engine)
    opened = time.perf_counter()
    here = {"tp": engine.tp, "rank": ctx.rank}
    rows: list[Row] = [
        {
            "kind": "load",
            **here,
            "import_s": imported - began,
            "load_s": opened - imported,
            **shards.memory_figures(llm),
            "step_weight_bytes": step_bytes(shards.weight_table(llm)),
        }
    ]
    generated = _generate(llm, config, ctx.config["vocab"])
    if ctx.rank == 0:
        rows += [{"kind": "generate", **here, **row} for row in generated]
        rows.append({"kind": "bandwidth", **here, **_bandwidth()})
    rows += [{"kind": "collectives", **here, **row} for row in collectives.step_collectives(llm)]
    if engine.tp > 1:
        tokens = sorted(
            {
                1,
                8,
                config.medium.requests,
                config.saturated.requests,
                1024,
                engine.max_num_batched_tokens or 1,
            }
        )
        timed = collectives.time_all_reduce(llm, tokens, repeats=config.all_reduce_repeats)
        rows += [{"kind": "all_reduce", **here, **row} for row in timed]
    return rows


def step_bytes(weights: list[Row]) -> int:
    """Bytes of weights that a decode step reads: all but an embedding table that is not the output head too.

    Of the table a step needs one row for each sequence. Tied, it is read whole, as the head.
    """
    head = any(row["name"].endswith("lm_head.weight") for row in weights)
    return sum(row["bytes"] for row in weights if not (head and row["name"].endswith("embed_tokens.weight")))


def _generate(llm: Any, config: Any, vocab: int) -> list[Row]:
    """The three loads, and the single request once more with one token: its prefill."""
    from labs.serving import workload
    from labs.serving.engine import timed_generate

    rows = []
    for salt, name in enumerate(("saturated", "medium", "single")):
        load = getattr(config, name)
        requests = workload.fixed(
            load.requests, load.input_tokens, load.output_tokens, vocab, 100 * config.seed + salt
        )
        prompts = [request.prompt_token_ids for request in requests]
        asked = (
            {name: load.output_tokens} if name != "single" else {"single": load.output_tokens, "single_1": 1}
        )
        for label, tokens in asked.items():
            rows += [
                {"load": label, **row, "asked_tokens": load.requests * tokens}
                for row in timed_generate(llm, prompts, tokens, repeats=load.repeats)
            ]
    return rows


def _bandwidth(repeats: int = 10) -> Row:
    """Memory bandwidth of this rank's device by a large copy; `bytes` is read plus written."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = COPY_BYTES[device]
    if device == "cuda":
        size = min(size, torch.cuda.mem_get_info()[0] // 4)  # the engine has taken most of the memory
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    samples = []
    for repeat in range(-2, repeats):
        _synchronize(device)
        began = time.perf_counter()
        target.copy_(source)
        _synchronize(device)
        if repeat >= 0:
            samples.append(time.perf_counter() - began)
    return {"device": device, "bytes": 2 * source.nbytes, "samples_s": samples}


def _synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def die(ctx: RankContext) -> None:
    """The drill: both ranks sum a tensor, then rank 1 kills itself and rank 0 waits in the next sum."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    message = torch.ones(1)
    dist.all_reduce(message)
    if ctx.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(message)
