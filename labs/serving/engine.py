"""The vLLM engine inside the ranks of a launch: settings, environment, open, generate, close.

A rank opens its part with `open_engine(config)`. At TP>1 every rank runs the same script on the same
prompts (vLLM's `external_launcher`): the schedulers agree because they are deterministic, so no process but
the ranks is needed. On the CPU this is also the quickest way to start: nothing is spawned, and vLLM is
imported once a rank.

`engine_env(config)` has to be in the environment before vLLM is imported; `launch(...,
env=engine_env(config))` sees to that. This module imports torch and vLLM only inside the functions that run
in a rank.

What a rank holds is in `labs.serving.shards`, what it says to the other ranks in `labs.serving.collectives`.
"""

import dataclasses
import gc
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from labs.core.config import Profile
from labs.core.errors import UserError
from labs.serving import shared_memory


class EngineConfig(BaseModel):
    """One engine's settings, for the offline engine and the server alike. None means vLLM's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: str  # a folder with config.json, or a hub name
    weights: Literal["real", "dummy", "tiny"] = "real"
    has_tokenizer: bool = True  # False: token ids in and out, nothing is detokenised
    profile: Profile = "cpu"
    tp: int = Field(default=1, ge=1)
    # auto: float32 on the CPU, so that every TP size writes the same greedy tokens; the checkpoint's on a GPU
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    seed: int = 0
    max_model_len: int = Field(default=2048, ge=1)  # tokens, prompt and answer together
    max_num_seqs: int = Field(default=64, ge=1)  # sequences in one step at most
    max_num_batched_tokens: int | None = None  # tokens in one step at most
    enforce_eager: bool | None = None  # None: eager on the CPU, CUDA graphs on a GPU
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)  # GPU: for weights and KV cache
    kv_cache_gib: int = Field(default=1, ge=1)  # CPU: KV cache of each rank
    disable_custom_all_reduce: bool = False
    enable_prefix_caching: bool = False
    enable_chunked_prefill: bool | None = None
    long_prefill_token_threshold: int | None = None
    scheduling_policy: Literal["fcfs", "priority"] | None = None
    async_scheduling: bool | None = None
    extra: Mapping[str, Any] = {}  # further vLLM engine arguments by name, such as {"block_size": 32}


def engine_env(config: EngineConfig) -> dict[str, str]:
    """Environment of a process that imports vLLM for this engine. On a GPU, what the user has set wins."""
    shared = {"VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if config.weights != "real" or os.path.isdir(config.model_path):
        shared |= {"HF_HUB_OFFLINE": "1"}  # everything is on the disk: no look at the hub, no wait for it
    if config.profile == "cpu":
        # Inductor would compile one C++ kernel in the first call at TP>1, for 10 s, even with enforce_eager.
        compile_off = {"TORCH_COMPILE_DISABLE": "1"}
        one_thread = {"OMP_NUM_THREADS": "1"}  # a second thread on a busy core halves the speed or worse
        return shared | compile_off | one_thread | {"VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib)}
    loopback = {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    env = shared | loopback
    if find_spec("flashinfer") is None:
        env |= {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_ALLREDUCE_USE_FLASHINFER": "0"}
    needed = {"VLLM_ENABLE_V1_MULTIPROCESSING"}  # the external launcher refuses to run without it
    return {name: value for name, value in env.items() if name in needed or name not in os.environ}


def is_eager(config: EngineConfig) -> bool:
    """Whether the engine runs without CUDA graphs and torch.compile."""
    return config.profile == "cpu" if config.enforce_eager is None else config.enforce_eager


def engine_arguments(config: EngineConfig) -> dict[str, Any]:
    """The settings as vLLM's engine arguments by name, the same for the offline engine and the server."""
    optional = {
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "enable_chunked_prefill": config.enable_chunked_prefill,
        "long_prefill_token_threshold": config.long_prefill_token_threshold,
        "scheduling_policy": config.scheduling_policy,
        "async_scheduling": config.async_scheduling,
        "gpu_memory_utilization": config.gpu_memory_utilization if config.profile == "gpu" else None,
        "load_format": "dummy" if config.weights == "dummy" else None,
    }
    return {
        "model": config.model_path,
        "tensor_parallel_size": config.tp,
        "dtype": "float32" if config.dtype == "auto" and config.profile == "cpu" else config.dtype,
        "seed": config.seed,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": is_eager(config),
        "disable_custom_all_reduce": config.disable_custom_all_reduce,
        "enable_prefix_caching": config.enable_prefix_caching,
        "skip_tokenizer_init": not config.has_tokenizer,
        **{name: value for name, value in optional.items() if value is not None},
        **config.extra,
    }


def check_model(config: EngineConfig) -> None:
    """UserError if the model is to be a folder and is none; a hub name is left to vLLM."""
    folder = Path(config.model_path)
    named = not config.model_path.startswith(("/", ".", "~")) and config.model_path.count("/") == 1
    if not (folder / "config.json").is_file() and (folder.is_dir() or not named):
        what = "has no config.json" if folder.is_dir() else "does not exist"
        raise UserError(f"the model folder {folder} {what}; give a folder with a model or a hub name")


def open_engine(config: EngineConfig) -> Any:
    """This rank's `vllm.LLM`. Collective: every rank of the launch calls it, with world_size == config.tp.

    UserError for a missing model, an argument that this vLLM does not know, or a launch of another size.
    """
    check_model(config)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != config.tp:
        raise UserError(f"an engine at TP={config.tp} needs {config.tp} ranks; this launch has {world}")
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    arguments = engine_arguments(config) | {"disable_log_stats": False}  # else RequestOutput.metrics is None
    if config.tp > 1:
        arguments["distributed_executor_backend"] = "external_launcher"
        if config.profile == "cpu":
            shared_memory.use_own_names()
    known = {field.name for field in dataclasses.fields(EngineArgs)}
    if unknown := sorted(set(arguments) - known):
        import vllm

        raise UserError(
            f"vLLM {vllm.__version__} has no engine argument {unknown[0]!r}; remove it from `extra`"
        )
    return LLM(**arguments)


def close_engine(llm: Any) -> None:
    """End the engine and free what it holds, also where the caller keeps the emptied `llm`."""
    from vllm.distributed import cleanup_dist_env_and_memory

    llm.llm_engine.engine_core.shutdown()
    vars(llm).clear()  # the caller's reference must not keep weights and KV cache alive
    gc.collect()
    cleanup_dist_env_and_memory()
    # A later engine in this rank meets the others through the same store: give it names of its own in there.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(attempt + 1)


@dataclass(frozen=True)
class Generation:
    """One answer. Log-probabilities are natural logarithms, None if they were not asked for."""

    token_ids: list[int]
    logprobs: list[float] | None  # of the tokens chosen
    top: (
        list[dict[int, float]] | None
    )  # at each place: log-probability by token id, of the most probable ones
    queue_s: float  # scheduled - queued
    prefill_s: float  # first token - scheduled
    decode_s: float  # last token - first token


def generate_ids(
    llm: Any, prompts: Sequence[Sequence[int]], max_tokens: int, *, logprobs: int | None = None
) -> list[Generation]:
    """Greedy answers of exactly `max_tokens` tokens (end-of-text does not end them), in the prompts' order.

    `logprobs=0` brings the log-probability of each chosen token, `logprobs=k` also those of the k most
    probable. Collective at TP>1: every rank gives the same prompts and gets the same answers.
    """
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0, max_tokens=max_tokens, ignore_eos=True, detokenize=False, logprobs=logprobs
    )
    return [_generation(output) for output in llm.generate(_inputs(prompts), params, use_tqdm=False)]


def score_ids(
    llm: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Log-probability of each token of each given answer after its prompt (teacher forcing)."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False, prompt_logprobs=0
    )
    whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    outputs = llm.generate(_inputs(whole), params, use_tqdm=False)
    return [
        [output.prompt_logprobs[at][ids[at]].logprob for at in range(len(prompt), len(ids))]
        for output, prompt, ids in zip(outputs, prompts, whole, strict=True)
    ]


def timed_generate(
    llm: Any, prompts: Sequence[Sequence[int]], max_tokens: int, *, repeats: int = 1, warmup: int = 1
) -> list[dict[str, Any]]:
    """Rows {repeat, seconds, requests, input_tokens, output_tokens}, each a call with all prompts at once.

    `warmup` calls before them do not count. At TP>1 the ranks start each call together.
    """
    rows = []
    for repeat in range(-warmup, repeats):
        barrier()
        start = time.perf_counter()
        answers = generate_ids(llm, prompts, max_tokens)
        seconds = time.perf_counter() - start
        if repeat >= 0:
            row = {"repeat": repeat, "seconds": seconds, "requests": len(prompts)}
            row["input_tokens"] = sum(len(prompt) for prompt in prompts)
            row["output_tokens"] = sum(len(answer.token_ids) for answer in answers)
            rows.append(row)
    return rows


def barrier() -> None:
    """Wait for the other ranks of the engine; nothing at TP=1."""
    from vllm.distributed import get_tp_group

    if get_tp_group().world_size > 1:
        get_tp_group().barrier()


def _inputs(prompts: Sequence[Sequence[int]]) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": list(prompt)} for prompt in prompts]


def _generation(output: Any) -> Generation:
    answer, times = output.outputs[0], output.metrics
    ids, places = list(answer.token_ids), answer.logprobs
    return Generation(
        token_ids=ids,
        logprobs=places and [place[token].logprob for place, token in zip(places, ids, strict=True)],
        top=places and [{token: entry.logprob for token, entry in place.items()} for place in places],
        queue_s=times.scheduled_ts - times.queued_ts,
        prefill_s=times.first_token_ts - times.scheduled_ts,
        decode_s=times.last_token_ts - times.first_token_ts,
    )
