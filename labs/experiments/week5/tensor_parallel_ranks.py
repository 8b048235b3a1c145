"""What runs in each rank of the setup: load and describe the engine, score given tokens; the reference."""

import time
from typing import Any

from labs.cluster.rank import RankContext
from labs.core.record import Row


def load(ctx: RankContext) -> list[Row]:
    """Rows `load`, `memory` and `shard` of this rank, and `generation` of rank 0."""
    began = time.perf_counter()
    import vllm  # noqa: F401  (timed apart: the import is a large part of a cold start)

    imported = time.perf_counter()
    from labs.serving import shards
    from labs.serving.engine import generate_ids

    before = _used(ctx)
    opening = time.perf_counter()
    llm, here = _open(ctx)
    opened = time.perf_counter()
    memory = {**shards.memory_figures(llm), **_used(ctx), "before_bytes": before["used_bytes"]}
    tokenizer = llm.get_tokenizer() if ctx.config["engine"]["has_tokenizer"] else None
    prompts = _prompt_ids(ctx.config, tokenizer)
    asked = time.perf_counter()
    answers = generate_ids(llm, prompts, ctx.config["output_tokens"])
    generated = time.perf_counter()
    times = {"import_s": imported - began, "load_s": opened - opening, "generate_s": generated - asked}
    rows: list[Row] = [
        {"kind": "load", **here, **times, "kv_tokens": memory["kv_tokens"], **llm.apply_model(_heads)[0]},
        {"kind": "memory", **here, **memory},
        *({"kind": "shard", **here, **row} for row in _alike(shards.weight_table(llm))),
    ]
    if ctx.rank:
        return rows
    for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        text = tokenizer.decode(answer.token_ids) if tokenizer else None
        shown = ctx.config["prompts"][at] if tokenizer else None
        row = {"prompt": at, "prompt_text": shown, "prompt_tokens": len(prompt), "text": text}
        rows.append({"kind": "generation", **here, **row, "token_ids": answer.token_ids})
    return rows


def score(ctx: RankContext) -> list[Row]:
    """Row `logprobs` of rank 0: what the engine at this TP size thinks of the reference's tokens."""
    from labs.serving.engine import score_ids

    llm, here = _open(ctx)
    prompts = _prompt_ids(ctx.config, llm.get_tokenizer())
    answers = ctx.config["continuations"]
    found = score_ids(llm, prompts, answers)
    if ctx.rank:
        return []
    return [
        {
            "kind": "logprobs",
            "source": f"vLLM TP={here['tp']}",
            "tp": here["tp"],
            "prompt": at,
            "token_ids": tokens,
            "logprobs": values,
        }
        for at, (tokens, values) in enumerate(zip(answers, found, strict=True))
    ]


def reference(ctx: RankContext) -> list[Row]:
    """Rows `logprobs` of transformers: a greedy continuation in float32, and the same tokens in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = ctx.config
    tokenizer = AutoTokenizer.from_pretrained(settings["model_path"])
    prompts = _prompt_ids(settings, tokenizer)
    answers: list[list[int]] = []
    rows: list[Row] = []
    for dtype in (torch.float32, torch.bfloat16):
        model = (
            AutoModelForCausalLM.from_pretrained(settings["model_path"], dtype=dtype)
            .to(settings["device"])
            .eval()
        )
        name = f"transformers {str(dtype).removeprefix('torch.')}"
        answers = answers or [_greedy(model, prompt, settings["output_tokens"]) for prompt in prompts]
        for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            values = _score(model, prompt, answer)
            row = {"source": name, "tp": None, "prompt": at, "token_ids": answer, "logprobs": values}
            rows.append({"kind": "logprobs", **row})
        del model
    return rows


def _open(ctx: RankContext) -> tuple[Any, dict[str, int]]:
    from labs.serving.engine import EngineConfig, open_engine

    engine = EngineConfig.model_validate(ctx.config["engine"])
    return open_engine(engine), {"tp": engine.tp, "rank": ctx.rank}


def _used(ctx: RankContext) -> dict[str, int | None]:
    """Memory in use now: of this rank's GPU, everybody's together (NVML); without a GPU, of this process."""
    from labs.cluster.memory import gpu_readings, rss

    gpus = gpu_readings() if ctx.config["device"] == "cuda" else []
    gpu = gpus[ctx.local_rank].used_bytes if gpus else None
    return {"gpu_bytes": gpu, "used_bytes": rss() if ctx.config["device"] == "cpu" else gpu}


def _heads(model: Any) -> dict[str, int]:
    """Heads of one attention layer on this rank, as the layer itself counts them."""
    layer = next(m for m in model.modules() if hasattr(m, "num_kv_heads") and hasattr(m, "head_size"))
    return {"heads": layer.num_heads, "kv_heads": layer.num_kv_heads, "head_dim": layer.head_size}


def _alike(table: list[Row]) -> list[Row]:
    """One row for weights that differ in nothing but their layer: named after the first, with a `count`."""
    groups: dict[str, Row] = {}
    for row in table:
        name = ".".join("*" if part.isdigit() else part for part in row["name"].split("."))
        group = groups.setdefault(f"{name} {row['shape']} {row['dtype']} {row['split']}", {**row, "count": 0})
        group["count"] += 1
    return list(groups.values())


def _prompt_ids(settings: dict[str, Any], tokenizer: Any) -> list[list[int]]:
    """The prompts as token ids; without a tokenizer (dummy weights) seeded random ids of the same number."""
    if tokenizer is not None:
        return [tokenizer.encode(prompt) for prompt in settings["prompts"]]
    from labs.serving import workload

    n = len(settings["prompts"])
    return [r.prompt_token_ids for r in workload.fixed(n, 16, 1, settings["vocab"], settings["seed"])]


def _greedy(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """`tokens` greedy tokens after `prompt`; end-of-text is a token like others, as in the engine's calls."""
    import torch

    model.generation_config.eos_token_id = None  # `min_new_tokens` would forbid it instead

    ids = torch.tensor([prompt], device=model.device)
    mask = torch.ones_like(ids)
    made = model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=tokens,
        pad_token_id=0,
    )
    return made[0, len(prompt) :].tolist()


def _score(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    """log p of each token of `answer` after `prompt`, in one forward pass; the softmax is in float32."""
    import torch

    ids = torch.tensor([prompt + answer], device=model.device)
    with torch.inference_mode():
        logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
    chosen = torch.tensor(answer, device=model.device)
    return logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0].tolist()
