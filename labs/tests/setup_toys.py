"""Toy Records of the tensor-parallel setup in the exact row schema. Nothing outside the tests reads them.

`own()` has the tiny model's shapes on two ranks of an invented CPU; `recorded()` the shapes of Qwen2.5-7B on
invented GPUs, with the KV tokens of the measured row of weeks/week5/README.md; `copied()` a model whose two
KV heads are shared among four ranks.
"""

from dataclasses import dataclass
from typing import Any

from labs.core.record import Record

STEM = "week5/01_tensor_parallel_setup"
GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder, and bytes of an element."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    wide: int
    vocab: int
    element: int


TINY = Shape(4, 256, 8, 4, 32, 512, 2048, 4)
QWEN = Shape(28, 3584, 28, 4, 128, 18944, 152064, 2)
SHARED = Shape(2, 64, 8, 2, 8, 128, 256, 4)
KV_TOKENS = {1: 1_912_944, 2: 4_115_808, 4: 8_529_984}


def shards(shape: Shape, tp: int, rank: int) -> list[dict[str, Any]]:
    """The rows of one rank, as vLLM cuts a Qwen2."""
    q = shape.heads * shape.head_dim
    kv = shape.kv_heads * shape.head_dim
    kv_here = max(1, shape.kv_heads // tp) * shape.head_dim
    qkv = {"q_proj": q // tp, "k_proj": kv_here, "v_proj": kv_here}
    gate_up = {"gate_proj": shape.wide // tp, "up_proj": shape.wide // tp}
    layer = "model.layers.0"
    table = [
        ("model.embed_tokens.weight", 1, [shape.vocab // tp, shape.hidden], "vocabulary", None,
         [shape.vocab, shape.hidden]),
        (f"{layer}.self_attn.qkv_proj.weight", shape.layers, [sum(qkv.values()), shape.hidden], "column",
         qkv, [q + 2 * kv, shape.hidden]),
        (f"{layer}.self_attn.qkv_proj.bias", shape.layers, [sum(qkv.values())], "column", qkv, [q + 2 * kv]),
        (f"{layer}.self_attn.o_proj.weight", shape.layers, [shape.hidden, q // tp], "row", None,
         [shape.hidden, q]),
        (f"{layer}.mlp.gate_up_proj.weight", shape.layers, [sum(gate_up.values()), shape.hidden], "column",
         gate_up, [2 * shape.wide, shape.hidden]),
        (f"{layer}.mlp.down_proj.weight", shape.layers, [shape.hidden, shape.wide // tp], "row", None,
         [shape.hidden, shape.wide]),
        (f"{layer}.input_layernorm.weight", shape.layers, [shape.hidden], "replicated", None, [shape.hidden]),
    ]  # fmt: skip
    rows = []
    for name, count, here, split, parts, full in table:
        size = shape.element
        for length in here:
            size *= length
        rows.append(
            {"part": "engines", "kind": "shard", "tp": tp, "rank": rank, "name": name, "count": count,
             "shape": here, "dtype": "toy", "bytes": size, "split": split, "parts": parts,
             "full_shape": full}
        )  # fmt: skip
    return rows


def engine(shape: Shape, tp: int, gpu: bool = False) -> list[dict[str, Any]]:
    """Rows `load`, `memory` and `shard` of every rank at one size, and one `generation` of rank 0."""
    rows: list[dict[str, Any]] = []
    tokens = KV_TOKENS[tp] if gpu else 262_144 * tp
    for rank in range(tp):
        here = {"part": "engines", "tp": tp, "rank": rank}
        held = shards(shape, tp, rank)
        weights = sum(row["bytes"] * row["count"] for row in held)
        used, before = (120 * GIB, GIB // 2) if gpu else (1_765_000_000 + rank * 1_000_000, 440_000_000)
        kv = int(used - before - weights - 2 * GIB) if gpu else GIB
        rows += [
            {"kind": "load", **here, "import_s": 4.0 + rank, "load_s": 10.0 - 2 * rank, "generate_s": 0.5,
             "kv_tokens": tokens, "heads": shape.heads // tp, "kv_heads": max(1, shape.kv_heads // tp),
             "head_dim": shape.head_dim},
            {"kind": "memory", **here, "weight_bytes": weights, "kv_bytes": kv, "kv_tokens": tokens,
             "rss_bytes": 3 * GIB if gpu else used, "allocated_bytes": used if gpu else None,
             "gpu_bytes": used if gpu else None, "used_bytes": used, "before_bytes": before},
            *held,
        ]  # fmt: skip
    answer = {"prompt": 0, "prompt_text": "A", "prompt_tokens": 1, "text": "b", "token_ids": [5, 6, 7, 8]}
    return [*rows, {"part": "engines", "kind": "generation", "tp": tp, "rank": 0, **answer}]


def logprobs(source: str, tp: int | None, *offsets: float) -> list[dict[str, Any]]:
    """Log-probabilities of two prompts of `len(offsets)` tokens: -1 plus each offset."""
    values = [-1.0 + offset for offset in offsets]
    return [
        {"part": "agreement", "kind": "logprobs", "source": source, "tp": tp, "prompt": at,
         "token_ids": list(range(len(values))), "logprobs": values}
        for at in (0, 1)
    ]  # fmt: skip


def agreement(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """The reference, bfloat16 0.01 off on average, and vLLM at every size: exact, then ever further off."""
    rows = logprobs("transformers float32", None, 0, 0, 0, 0)
    rows += logprobs("transformers bfloat16", None, 0.02, -0.02, 0, 0)
    for tp in sizes:
        step = (tp - 1) * 1e-3
        rows += logprobs(f"vLLM TP={tp}", tp, 0, step, -step, 3 * step)
    return rows


def record(rows: list[dict[str, Any]], summary: str = "CPU, 2 cores, Toy", weights: Any = "tiny") -> Record:
    """A measured Record of these rows."""
    return Record.new(
        STEM, config={"equal_within": 0.05, "noise_factor": 3.0}, samples=rows, seconds=60.0, weights=weights,
        model="toy", profile="cpu" if weights == "tiny" else "gpu", hardware={"summary": summary},
    )  # fmt: skip


def own(sizes: tuple[int, ...] = (1, 2)) -> Record:
    """A learner's run."""
    rows = [row for tp in sizes for row in engine(TINY, tp)]
    return record(_whole(rows, sizes) + agreement(sizes))


def recorded(summary: str = "4x NVIDIA H200") -> Record:
    """A recorded run at three sizes."""
    rows = [row for tp in (1, 2, 4) for row in engine(QWEN, tp, gpu=True)]
    return record(rows + agreement((1, 2, 4)), summary, "dummy").as_recorded("a toy")


def copied() -> Record:
    """A run whose four ranks share two KV heads."""
    return record([row for tp in (1, 2, 4) for row in engine(SHARED, tp)])


def without(one: Record, *kinds: str) -> Record:
    """The Record without the rows of some kinds, as if they had not been measured."""
    return one.model_copy(update={"samples": [row for row in one.samples if row["kind"] not in kinds]})


def lacking(one: Record, kind: str, *columns: str) -> Record:
    """The Record with null in some columns of a kind of row."""
    rows = [{**r, **dict.fromkeys(columns)} if r["kind"] == kind else r for r in one.samples]
    return one.model_copy(update={"samples": rows})


def _whole(rows: list[dict[str, Any]], sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Without TP=1 nobody knows the whole."""
    return rows if 1 in sizes else [{**r, "full_shape": None} if r["kind"] == "shard" else r for r in rows]
