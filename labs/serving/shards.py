"""What one rank of an engine holds: the shard of every weight, and the memory of weights and KV cache."""

import math
from typing import Any


def weight_table(llm: Any) -> list[dict[str, Any]]:
    """Rows {name, shape, dtype, bytes, split, parts} of this rank's parameters, in the model's order.

    `shape` is what this rank holds. `split` says how the layer is cut over the ranks: "column" (output
    features, the rows of the stored matrix), "row" (input features), "vocabulary", or "replicated". `parts`
    names the matrices that vLLM fused into one and their sizes on this rank ({"q_proj": 128, …}), else
    None.
    """
    return llm.apply_model(_weights)[0]


def memory_figures(llm: Any) -> dict[str, int | None]:
    """Bytes on this rank, and the tokens whose keys and values fit in the whole engine (`kv_tokens`).

    `weight_bytes`, `kv_bytes`, `rss_bytes` (the whole process), `allocated_bytes` (torch's on the GPU; None
    on a CPU). On a CPU the KV cache counts in full but occupies memory only as far as it was written.
    """
    import torch

    cache = llm.llm_engine.vllm_config.cache_config
    held = llm.collective_rpc(_kv_bytes)[0]
    return {
        "weight_bytes": sum(row["bytes"] for row in weight_table(llm)),
        "kv_bytes": held,
        "kv_tokens": cache.kv_cache_size_tokens,
        "rss_bytes": resident_bytes(),
        "allocated_bytes": torch.cuda.memory_allocated() if torch.cuda.is_available() else None,
    }


def resident_bytes() -> int:
    """Resident memory of this process in bytes, pages shared with other processes included."""
    import psutil

    return psutil.Process().memory_info().rss


def _kv_bytes(worker: Any) -> int:
    storages = {cache.untyped_storage().data_ptr(): cache for cache in worker.model_runner.kv_caches}
    return sum(cache.untyped_storage().nbytes() for cache in storages.values())


def _weights(model: Any) -> list[dict[str, Any]]:
    modules = dict(model.named_modules())
    fused = getattr(model, "packed_modules_mapping", {})
    rows = []
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        module = modules[path]
        shape = _shape(module, leaf, parameter)
        names, sizes = fused.get(path.rpartition(".")[2]), getattr(module, "output_partition_sizes", [])
        rows.append(
            {
                "name": name,
                "shape": shape,
                "dtype": str(parameter.dtype).removeprefix("torch."),
                "bytes": math.prod(shape) * parameter.element_size(),
                "split": _split(module, leaf),
                "parts": dict(zip(names, sizes, strict=True)) if names and len(sizes) > 1 else None,
            }
        )
    return rows


def _shape(module: Any, leaf: str, parameter: Any) -> list[int]:
    """On a CPU vLLM repacks a linear layer's matrix and empties the parameter: ask the layer."""
    if parameter.numel() or leaf != "weight":
        return list(parameter.shape)
    rows = getattr(module, "output_size_per_partition", module.output_size)
    columns = getattr(module, "input_size_per_partition", module.input_size)
    return [rows, columns]


def _split(module: Any, leaf: str) -> str:
    from vllm.model_executor.layers.linear import ColumnParallelLinear, RowParallelLinear
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    if isinstance(module, VocabParallelEmbedding):
        return "vocabulary"
    if isinstance(module, ColumnParallelLinear):
        return "column"
    # A row-parallel layer adds its bias once, after the sum over the ranks, so every rank may hold all of it.
    return "row" if isinstance(module, RowParallelLinear) and leaf == "weight" else "replicated"
