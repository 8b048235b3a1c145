"""Workloads from files: ShareGPT-style conversations and Mooncake-style request traces.

Read here rather than by vllm.benchmarks.datasets: ShareGPTDataset hands out text, which the server tokenises
again, and TimedTrace seeds the tokens of a block with Python's `hash()` of a string, which differs from one
process to the next, and draws a cut block anew, so that it is no prefix of the whole one.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labs.core.errors import UserError
from labs.serving.workload import Request, check_seed


class Trace(NamedTuple):
    """Requests and when each arrives, seconds since the first."""

    requests: list[Request]
    arrivals: list[float]


def sharegpt(
    path: Path | str,
    encode: Callable[[str], list[int]],
    n: int | None = None,
    seed: int = 0,
    *,
    min_tokens: int = 4,
    max_input_tokens: int = 1024,
    max_total_tokens: int = 2048,
) -> list[Request]:
    """First question and length of the first answer of up to `n` conversations, in shuffled order.

    The file is a JSON list of {"conversations": [{"value": "question"}, {"value": "answer"}, …]}. `encode`
    turns text into token ids (a tokenizer's `encode`). Conversations with a part shorter than `min_tokens`, a
    longer prompt or a longer total are passed over, with vLLM's limits. UserError if fewer than `n` are left.
    """
    path = Path(path)
    check_seed(seed)
    data = _parse(path, _read(path), "")
    if not isinstance(data, list) or not data:
        raise UserError(f"{path} must hold a JSON list of conversations, found {_kind(data)}")
    requests: list[Request] = []
    for index in np.random.default_rng(seed).permutation(len(data)):
        if n is not None and len(requests) == n:
            break
        turns = _turns(path, int(index), data[index])
        if turns is None:
            continue
        prompt, answer = encode(turns[0]), encode(turns[1])
        if min(len(prompt), len(answer)) < min_tokens or len(prompt) > max_input_tokens:
            continue
        if len(prompt) + len(answer) <= max_total_tokens:
            requests.append(Request(prompt_token_ids=list(prompt), max_tokens=len(answer), cls="sharegpt"))
    if not requests or (n is not None and len(requests) < n):
        wanted = "any" if n is None else n
        raise UserError(
            f"{path} has {len(requests)} of {len(data)} conversations within the limits "
            f"({min_tokens} to {max_input_tokens} prompt tokens, {max_total_tokens} in all), need {wanted}"
        )
    return requests


def mooncake(
    path: Path | str,
    vocab: int,
    n: int | None = None,
    seed: int = 0,
    *,
    block_size: int = 512,
    speed: float = 1.0,
    max_input_tokens: int | None = None,
    max_output_tokens: int | None = None,
) -> Trace:
    """The first `n` requests of a Mooncake-style trace, played `speed` times as fast.

    Each line is {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [int, …]};
    a hash id stands for `block_size` tokens, so equal ids at the start of two prompts are a shared prefix.
    Without `hash_ids` a prompt shares nothing. Longer requests are cut to the limits (a small context).
    Source: Qin et al., Mooncake, arXiv 2407.00079, and its published traces.
    """
    path = Path(path)
    check_seed(seed)
    if not speed > 0:
        raise UserError(f"speed must be above 0, found {speed}")
    blocks = _Blocks(vocab, block_size, seed)
    rows: list[tuple[float, Request]] = []
    for number, line in _lines(path):
        if n is not None and len(rows) == n:
            break
        where = f" line {number}"
        entry = _parse(path, line, where)
        if not isinstance(entry, dict):
            raise UserError(f"{path}{where} must be a JSON object, found {_kind(entry)}")
        stamp = _number(path, where, entry, "timestamp", 0)
        n_in = min(int(_number(path, where, entry, "input_length", 1)), max_input_tokens or 2**62)
        n_out = min(int(_number(path, where, entry, "output_length", 1)), max_output_tokens or 2**62)
        ids = entry.get("hash_ids")
        if ids is not None:
            _check_ids(path, where, ids, n_in, block_size)
        prompt = blocks.prompt(ids, n_in, number)
        rows.append((stamp / 1000 / speed, Request(prompt_token_ids=prompt, max_tokens=n_out, cls="trace")))
    if not rows or (n is not None and len(rows) < n):
        raise UserError(f"{path} holds {len(rows)} requests, need {n or 'at least one'}")
    rows.sort(key=lambda row: row[0])  # stable: requests of one moment keep their order
    return Trace([request for _, request in rows], [stamp - rows[0][0] for stamp, _ in rows])


class _Blocks:
    """Token ids of a hash id: the same for the same id and seed, in every process."""

    def __init__(self, vocab: int, block_size: int, seed: int) -> None:
        if vocab < 2 or block_size < 1:
            raise UserError(f"need vocab >= 2 and block_size >= 1, found {vocab} and {block_size}")
        self.vocab, self.block_size, self.seed = vocab, block_size, seed

    def prompt(self, ids: list[int] | None, n: int, line: int) -> list[int]:
        if ids is None:
            return self._draw(n, 0, line)
        needed = ids[: -(-n // self.block_size)]
        return [token for i in needed for token in self._draw(self.block_size, 1, i)][:n]

    def _draw(self, n: int, stream: int, key: int) -> list[int]:
        rng = np.random.default_rng([self.seed, stream, key])
        return [int(x) for x in rng.integers(0, self.vocab, size=n)]


def _turns(path: Path, index: int, entry: Any) -> tuple[str, str] | None:
    """Question and answer of a conversation; None if it has fewer than two turns."""
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list):
        raise UserError(
            f'{path} entry {index} has no list "conversations"; this is not a ShareGPT-style file'
        )
    if len(turns) < 2:
        return None
    values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
    if not all(isinstance(value, str) for value in values):
        raise UserError(f'{path} entry {index}: each turn needs a text "value", found {_kind(values[0])}')
    return str(values[0]), str(values[1])


def _check_ids(path: Path, where: str, ids: Any, n: int, block_size: int) -> None:
    if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
        raise UserError(f"{path}{where}: hash_ids must be a list of whole numbers from 0, found {ids!r:.60}")
    if len(ids) * block_size < n:
        raise UserError(
            f"{path}{where}: {len(ids)} hash_ids of {block_size} tokens do not cover {n} input tokens; "
            "give the block_size that the trace was made with"
        )


def _number(path: Path, where: str, entry: dict[str, Any], key: str, least: int) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 2**53:
        raise UserError(f"{path}{where}: {key} must be a number from {least}, found {value!r:.60}")
    return float(value)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if line.strip():
            yield number, line


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None


def _parse(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}{where} is not valid JSON: {error}") from None


def _kind(value: Any) -> str:
    return f"an empty {type(value).__name__}" if value in ([], {}, "") else type(value).__name__
