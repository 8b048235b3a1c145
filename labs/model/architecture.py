"""What a config.json says about work, memory and sharding: dense Qwen2- and Llama-style decoders."""

from typing import Any, NamedTuple

from labs.core.errors import UserError

Config = dict[str, Any]  # a Hugging Face config.json

VOCAB_PADDING = 64  # vLLM pads the vocabulary to a multiple of this before it shards it


def heads(config: Config) -> int:
    """Attention (query) heads."""
    return _number(config, "num_attention_heads")


def kv_heads(config: Config) -> int:
    """Key/value heads; equal to `heads` without grouped-query attention."""
    return (
        heads(config) if config.get("num_key_value_heads") is None else _number(config, "num_key_value_heads")
    )


def layers(config: Config) -> int:
    """Decoder layers."""
    return _number(config, "num_hidden_layers")


def hidden(config: Config) -> int:
    """Width of the residual stream."""
    return _number(config, "hidden_size")


def max_positions(config: Config) -> int:
    """The longest context in tokens."""
    return _number(config, "max_position_embeddings")


def head_dim(config: Config) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or hidden(config) // heads(config))


def parameters(config: Config) -> int:
    """Parameters of a dense Qwen2- or Llama-style decoder: matrices, biases and norms."""
    family = config.get("model_type")
    if family not in ("qwen2", "llama", "mistral"):
        raise UserError(f"model_type {family!r}: the lab counts parameters of qwen2, llama and mistral only")
    h, mlp = hidden(config), _number(config, "intermediate_size")
    q, kv = heads(config) * head_dim(config), kv_heads(config) * head_dim(config)
    biases = q + 2 * kv if family == "qwen2" else 0
    layer = h * (q + 2 * kv) + biases + q * h + 3 * h * mlp + 2 * h
    embeddings = _number(config, "vocab_size") * h * (1 if config.get("tie_word_embeddings") else 2)
    return layers(config) * layer + embeddings + h


def weight_bytes(config: Config, dtype_bytes: int = 2) -> int:
    """Bytes of all weights at `dtype_bytes` a parameter (2: bfloat16)."""
    return parameters(config) * dtype_bytes


def all_reduce_bytes(config: Config, tokens: int, dtype_bytes: int = 2) -> int:
    """Bytes of one all-reduce of a tensor-parallel step over `tokens` tokens: one [tokens, hidden] tensor."""
    return tokens * hidden(config) * dtype_bytes


class Collectives(NamedTuple):
    """Collective calls of one forward step under tensor parallelism."""

    all_reduce: int
    all_gather: int


def collectives_per_step(config: Config) -> Collectives:
    """2 all-reduces a layer (attention, MLP), one for the embedding, and an all-gather of the logits.

    As vLLM runs a dense Qwen2 or Llama with TP > 1 (its RowParallelLinear, VocabParallelEmbedding and
    LogitsProcessor); with TP=1 there is none.
    """
    return Collectives(all_reduce=2 * layers(config) + 1, all_gather=1)


def tp_obstacle(config: Config, tp: int) -> str:
    """Why vLLM cannot shard this shape over `tp` ranks, as a clause after "TP=<tp>"; "" if it can."""
    if heads(config) % tp:
        return f"does not divide {heads(config)} attention heads"
    if kv_heads(config) % tp and tp % kv_heads(config):  # more ranks than KV heads: each head is copied
        return f"neither divides {kv_heads(config)} KV heads nor is a multiple of them"
    padded = -(-_number(config, "vocab_size") // VOCAB_PADDING) * VOCAB_PADDING
    for what, size in (("MLP columns", _number(config, "intermediate_size")), ("vocabulary rows", padded)):
        if size % tp:
            return f"does not divide {size} {what}"
    return ""


def valid_tp(config: Config) -> list[int]:
    """Tensor-parallel sizes that vLLM accepts for this shape, ascending."""
    return [tp for tp in range(1, heads(config) + 1) if not tp_obstacle(config, tp)]


def check_tp_divides(config: Config, tp: int) -> None:
    """UserError "TP=3 does not divide 28 attention heads; use 1, 2 or 4" unless vLLM can shard over `tp`."""
    obstacle = tp_obstacle(config, tp) if tp >= 1 else "is not a number of ranks"
    if obstacle:
        *firsts, last = map(str, valid_tp(config))
        raise UserError(f"TP={tp} {obstacle}; use {', '.join(firsts) + ' or ' if firsts else ''}{last}")


def _number(config: Config, key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(
            f"config.json needs an integer {key} of 1 or more, found {value!r}: "
            "not a dense Qwen2- or Llama-style model"
        )
    return value
