"""Workloads: what is asked of the server, as token ids, so that no tokenizer stands between plan and count.

Synthetic workloads (`fixed`, `random_lengths`, `mixed`) are pure functions of their arguments and the seed.
Token ids are uniform below `vocab`, each prompt drawn on its own, so that prefix caching finds nothing to
share unless `shared_prefix` asks for it. Requests read from files are in `labs.serving.traces`.

vllm.benchmarks.datasets is not used here: its synthetic sets need a tokenizer and hand out text, which the
server tokenises again to a slightly different length. The meaning of `range_ratio` is vLLM's.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labs.core.errors import UserError


class Request(BaseModel):
    """One completion request. `max_tokens` are generated in full: the client sends ignore_eos."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_token_ids: list[int] = Field(min_length=1)
    max_tokens: int = Field(ge=1)
    cls: str = ""  # class in a mixed workload: "short", "long", …
    client: int = Field(default=0, ge=0)  # whose request it is, for fairness between clients
    priority: int = 0  # lower is served first, if the server schedules by priority


class TrafficClass(BaseModel):
    """One class of a mixed workload; `share` is relative to the other classes' shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    share: float = Field(gt=0)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    range_ratio: float = Field(default=0.0, ge=0, lt=1)
    priority: int = 0


def fixed(
    n: int,
    input_tokens: int,
    output_tokens: int,
    vocab: int,
    seed: int = 0,
    *,
    clients: int = 1,
    shared_prefix: int = 0,
) -> list[Request]:
    """`n` requests of one size. Request i belongs to client i mod `clients`."""
    return random_lengths(
        n, input_tokens, output_tokens, 0.0, vocab, seed, clients=clients, shared_prefix=shared_prefix
    )


def random_lengths(
    n: int,
    input_tokens: int,
    output_tokens: int,
    range_ratio: float | Mapping[str, float],
    vocab: int,
    seed: int = 0,
    *,
    clients: int = 1,
    shared_prefix: int = 0,
) -> list[Request]:
    """`n` requests with lengths uniform in [⌊mean·(1-r)⌋, ⌈mean·(1+r)⌉], as vLLM's random dataset has them.

    `range_ratio` r is in [0, 1), one number or {"input": r, "output": r}. The first `shared_prefix` tokens
    are the same in every prompt and count as part of its length.
    """
    check_seed(seed)
    _check_sizes(n, input_tokens, output_tokens, vocab, clients, shared_prefix)
    input_ratio, output_ratio = _ratios(range_ratio)
    rng = np.random.default_rng(seed)
    prefix = rng.integers(0, vocab, size=shared_prefix).tolist()
    inputs = _lengths(rng, n, input_tokens, input_ratio)
    outputs = _lengths(rng, n, output_tokens, output_ratio)
    return [
        Request(
            prompt_token_ids=(prefix + rng.integers(0, vocab, size=max(n_in - shared_prefix, 0)).tolist())[
                :n_in
            ],
            max_tokens=n_out,
            client=i % clients,
        )
        for i, (n_in, n_out) in enumerate(zip(inputs, outputs, strict=True))
    ]


def mixed(
    n: int, classes: Sequence[TrafficClass], vocab: int, seed: int = 0, *, clients: int = 1
) -> list[Request]:
    """`n` requests of several classes in random order; each class has its share of `n`, to one request."""
    check_seed(seed)
    if not classes:
        raise UserError("a mixed workload needs at least one class, found none")
    names = [c.name for c in classes]
    if len(set(names)) < len(names):
        raise UserError(f"classes of a mixed workload need different names, found {', '.join(names)}")
    requests: list[Request] = []
    for index, (kind, count) in enumerate(
        zip(classes, _apportion(n, [c.share for c in classes]), strict=True)
    ):
        drawn = random_lengths(
            count, kind.input_tokens, kind.output_tokens, kind.range_ratio, vocab, _seed(seed, index)
        )
        requests += [r.model_copy(update={"cls": kind.name, "priority": kind.priority}) for r in drawn]
    order = np.random.default_rng(_seed(seed, len(classes))).permutation(n)
    return [requests[int(j)].model_copy(update={"client": i % clients}) for i, j in enumerate(order)]


def total_tokens(requests: Sequence[Request]) -> tuple[int, int]:
    """Input and output tokens of the whole workload."""
    return sum(len(r.prompt_token_ids) for r in requests), sum(r.max_tokens for r in requests)


def check_seed(seed: int) -> None:
    """numpy takes whole numbers from 0 as seeds."""
    if seed < 0:
        raise UserError(f"a seed must be a whole number from 0, found {seed}")


def _apportion(n: int, shares: Sequence[float]) -> list[int]:
    """Split `n` by `shares`, largest remainder first, so that the parts add up to `n`."""
    exact = [n * share / sum(shares) for share in shares]
    parts = [math.floor(x) for x in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: n - sum(parts)]:
        parts[i] += 1
    return parts


def _lengths(rng: np.random.Generator, n: int, mean: int, ratio: float) -> list[int]:
    low, high = max(1, math.floor(mean * (1 - ratio))), math.ceil(mean * (1 + ratio))
    return [int(x) for x in rng.integers(low, high + 1, size=n)]


def _ratios(range_ratio: float | Mapping[str, float]) -> tuple[float, float]:
    if isinstance(range_ratio, Mapping):
        if set(range_ratio) != {"input", "output"}:
            raise UserError(f"range_ratio needs the keys input and output, found {sorted(range_ratio)}")
        pair = (float(range_ratio["input"]), float(range_ratio["output"]))
    else:
        pair = (float(range_ratio), float(range_ratio))
    if not all(0 <= ratio < 1 for ratio in pair):
        raise UserError(f"range_ratio must be at least 0 and below 1, found {range_ratio}")
    return pair


def _seed(seed: int, index: int) -> int:
    """An independent seed for part `index` of a workload."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _check_sizes(n: int, n_in: int, n_out: int, vocab: int, clients: int, shared_prefix: int) -> None:
    for name, value, least in (
        ("number of requests", n, 0),
        ("input_tokens", n_in, 1),
        ("output_tokens", n_out, 1),
        ("vocab", vocab, 2),
        ("clients", clients, 1),
        ("shared_prefix", shared_prefix, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, found {value}")
    if shared_prefix > n_in:
        raise UserError(
            f"shared_prefix must not be longer than the prompt of {n_in} tokens, found {shared_prefix}"
        )
