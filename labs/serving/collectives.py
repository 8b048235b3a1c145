"""The messages of tensor parallelism in one rank: how many a step sends, how large, and what one costs.

A dense decoder split as Megatron-LM does it needs 2·layers + 1 all-reduces a step (one after each
attention, one after each MLP, one after the embedding that is split by vocabulary) and one all-gather for
the logits.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

DECODE_STEPS = 4
GRAPH_REPEATS = 20  # all-reduces in one captured graph: the launch of the graph is spread over them
MESSAGES = (
    "all_reduce",
    "all_gather",
    "all_gatherv",
    "reduce_scatter",
    "reduce_scatterv",
    "gather",
    "broadcast",
)
CARRIERS = {  # attribute of vLLM's device communicator -> its method, and the name of what carries the bytes
    "ca_comm": ("custom_all_reduce", "vLLM custom all-reduce"),
    "symm_mem_comm": ("all_reduce", "torch symmetric memory"),
    "fi_ar_comm": ("all_reduce", "FlashInfer"),
    "fi_pcie_ipc_ar_comm": ("all_reduce", "FlashInfer over PCIe"),
    "pynccl_comm": ("all_reduce", "NCCL"),
}


def step_collectives(llm: Any, prompt: Sequence[int] = (1, 2, 3)) -> list[dict[str, Any]]:
    """Rows {op, count, shape, dtype, bytes, counted} of one step in this rank; none at TP=1. Collective.

    `shape`, `dtype` and `bytes` are those of the tensor that this rank puts in. `counted` says where:
    "decode step" (one sequence), or, because Python does not run when a CUDA graph is replayed, "prefill of
    N tokens outside CUDA graphs" (the same layers, N rows instead of one). RuntimeError if vLLM sent
    nothing that a hook can see, as when a compiler pass has fused the all-reduces.
    """
    from vllm.distributed import get_tp_group

    from labs.serving.engine import generate_ids

    if get_tp_group().world_size == 1:
        return []
    with recorded() as first:
        generate_ids(llm, [prompt], 1)
    with recorded() as rest:
        generate_ids(llm, [prompt], 1 + DECODE_STEPS)
    step = [] if len(rest) == len(first) else rest[len(first) :]
    if any(op == "all_reduce" for op, *_ in step):
        return _rows(step, DECODE_STEPS, "decode step")
    limit = llm.llm_engine.vllm_config.compilation_config.max_cudagraph_capture_size or 0
    prompts = [[1] * 64] * (limit // 64 + 1)
    with recorded() as step:
        generate_ids(llm, prompts, 1)
    if not any(op == "all_reduce" for op, *_ in step):
        raise RuntimeError(
            "no tensor-parallel all-reduce passed vLLM's communicator: they are fused or captured"
        )
    return _rows(step, 1, f"prefill of {64 * len(prompts)} tokens outside CUDA graphs")


@contextlib.contextmanager
def recorded() -> Iterator[list[tuple[str, tuple[int, ...], str, int]]]:
    """The calls of vLLM's tensor-parallel communicator inside the block: (op, shape, dtype, bytes)."""
    from vllm.distributed import get_tp_group

    communicator = get_tp_group().device_communicator
    calls: list[tuple[str, tuple[int, ...], str, int]] = []

    def hook(op: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append((op, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.nbytes))
            return original(tensor, *args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for op in MESSAGES:
            stack.enter_context(_replaced(communicator, op, hook))
        yield calls


def time_all_reduce(
    llm: Any, tokens: Sequence[int], *, repeats: int = 30, warmup: int = 5
) -> list[dict[str, Any]]:
    """Rows {tokens, bytes, carrier, captured, samples_us} of vLLM's own all-reduce.

    A message is `tokens` vectors of the model's hidden size, in its type. The ranks start together at a
    barrier. On a CPU, and on a GPU without graphs, a sample is one call (perf_counter, CUDA events). With
    graphs it is a replay of a captured graph of 20 all-reduces, divided by 20 (`captured` is then true), as
    the engine itself runs them. RuntimeError if the sum is wrong: a wrong result is not worth a time.
    Collective; ValueError at TP=1, where there is none.
    """
    import torch
    from vllm.distributed import get_tp_group

    group = get_tp_group()
    if group.world_size == 1:
        raise ValueError("there is no all-reduce at TP=1")
    model = llm.llm_engine.vllm_config.model_config
    captured = group.device.type == "cuda" and not model.enforce_eager
    rows = []
    for count in tokens:
        message = torch.ones(count, model.get_hidden_size(), dtype=model.dtype, device=group.device)
        nbytes, carrier = message.nbytes, _carrier(group, message)
        message.zero_()  # on a CPU the sum is written in place: zeros stay zeros
        timer = _time_graph if captured else _time_events if group.device.type == "cuda" else _time_calls
        samples = timer(group, message, repeats, warmup)
        rows.append(
            {
                "tokens": count,
                "bytes": nbytes,
                "carrier": carrier,
                "captured": captured,
                "samples_us": [1e6 * seconds for seconds in samples],
            }
        )
    return rows


def _carrier(group: Any, ones: Any) -> str:
    """Sum ones over the ranks, check the sum, and name what carried it."""
    communicator = group.device_communicator
    used: list[str] = []

    def hook(name: str, _: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            used.append(name)
            return original(*args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for attribute, (method, name) in CARRIERS.items():
            if carrier := getattr(communicator, attribute, None):
                stack.enter_context(_replaced(carrier, method, partial(hook, name)))
        total = group.all_reduce(ones)
    if not bool((total == group.world_size).all()):
        raise RuntimeError(
            f"all-reduce of ones over {group.world_size} ranks gave {total.flatten()[0].item()}"
        )
    if hasattr(communicator, "dist_module"):
        return (
            "vLLM shared memory" if type(communicator.dist_module).__name__.startswith("_CPUSHM") else "gloo"
        )
    return used[0] if used else "torch.distributed"


def _time_calls(group: Any, message: Any, repeats: int, warmup: int) -> list[float]:
    group.barrier()
    times = [time.perf_counter()]
    for _ in range(warmup + repeats):
        group.all_reduce(message)
        times.append(time.perf_counter())
    return [b - a for a, b in zip(times[warmup:], times[warmup + 1 :], strict=False)]


def _time_events(group: Any, message: Any, repeats: int, warmup: int) -> list[float]:
    return _events(group, lambda: group.all_reduce(message), repeats, warmup)


def _time_graph(group: Any, message: Any, repeats: int, warmup: int) -> list[float]:
    import torch
    from vllm.distributed.parallel_state import graph_capture

    graph = torch.cuda.CUDAGraph()
    with graph_capture(device=group.device) as context, torch.cuda.graph(graph, stream=context.stream):
        for _ in range(GRAPH_REPEATS):
            group.all_reduce(message)
    samples = _events(group, graph.replay, repeats, warmup)
    return [seconds / GRAPH_REPEATS for seconds in samples]


def _events(group: Any, run: Callable[[], Any], repeats: int, warmup: int) -> list[float]:
    import torch

    marks = [torch.cuda.Event(enable_timing=True) for _ in range(warmup + repeats + 1)]
    torch.cuda.synchronize()
    group.barrier()
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    pairs = zip(marks[warmup:], marks[warmup + 1 :], strict=False)
    return [a.elapsed_time(b) / 1e3 for a, b in pairs]


def _rows(
    calls: Sequence[tuple[str, tuple[int, ...], str, int]], steps: int, counted: str
) -> list[dict[str, Any]]:
    rows = []
    for (op, shape, dtype, nbytes), number in Counter(calls).items():
        if number % steps:
            raise RuntimeError(
                f"{number} × {op} in {steps} steps: the steps differ, so there is no count a step"
            )
        row = {"op": op, "count": number // steps, "shape": list(shape), "dtype": dtype}
        rows.append({**row, "bytes": nbytes, "counted": counted})
    return rows


@contextlib.contextmanager
def _replaced(
    owner: Any, name: str, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """`owner.name` replaced on the instance for the block; nothing if the class has no such method."""
    original = getattr(owner, name, None)
    if original is None:
        yield
        return
    setattr(owner, name, wrap(name, original))
    try:
        yield
    finally:
        delattr(owner, name)
