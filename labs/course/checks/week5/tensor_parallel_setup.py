"""Checks of notebook week5/01_tensor_parallel_setup, and what its Record says about each prediction."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.analysis.week5 import tensor_parallel_shards as shards
from labs.core.record import Record
from labs.course.checks import Check, Verdict, compare

OUT, IN = 8, 12  # of the matrix that C1 cuts; 3 ranks divide the one and not the other
RANKS = (1, 2, 4)
KV_CASES = [  # (rank, ranks, heads, kv_heads) -> the KV heads that its query heads need
    ((0, 1, 8, 4), [0, 1, 2, 3]),
    ((1, 2, 8, 4), [2, 3]),
    ((0, 2, 8, 4), [0, 1]),
    ((3, 4, 8, 4), [3]),
    ((1, 4, 28, 4), [1]),
    ((4, 8, 8, 4), [2]),
    ((5, 8, 8, 4), [2]),
]
KV_REFUSED = [(0, 3, 8, 4), (0, 8, 28, 4), (0, 7, 28, 4)]
COUNT_CASES = [((4, 2), 9), ((28, 2), 57), ((28, 4), 57), ((1, 8), 3), ((28, 1), 0)]
MESSAGE = 256 * 3584 * 2  # bytes: sequences, hidden size, bf16
SIZES = [1, 2, 4]


def shard(answer: Any) -> Verdict:
    """`shard(weight, rank, ranks, kind)`: a rank's block of an [out, in] matrix, ValueError for a rest."""
    if not callable(answer):
        return Verdict(False, f"a function is wanted, found {answer!r}")
    weight = np.arange(OUT * IN).reshape(OUT, IN)
    for kind, axis in (("column", 0), ("row", 1)):
        for ranks in RANKS:
            for rank in range(ranks):
                found = np.asarray(answer(weight, rank, ranks, kind))
                if fault := _block_fault(found, weight, rank, ranks, axis):
                    call = f"shard(weight of [{OUT}, {IN}], rank={rank}, ranks={ranks}, kind={kind!r})"
                    return Verdict(False, f"{call} {fault}", _block_hint(found, weight, rank, ranks, axis))
    refusal = _refuses(answer, (weight, 0, 3, "column"), f"{OUT} rows over 3 ranks")
    return refusal or Verdict(True, "the pieces of 1, 2 and 4 ranks fit, and 3 ranks are refused")


def kv_heads_of(answer: Any) -> Verdict:
    """`kv_heads_of(rank, ranks, heads, kv_heads)`: KV heads of a rank, ValueError for impossible sizes."""
    found = compare.function(answer, KV_CASES, hint=_kv_hint)
    if not found.passed:
        return found
    for case in KV_REFUSED:
        if refusal := _refuses(answer, case, _kv_refusal(*case)):
            return refusal
    return Verdict(True, f"all {len(KV_CASES) + len(KV_REFUSED)} cases")


def all_reduces(answer: Any) -> Verdict:
    """`all_reduces(layers, ranks)` of one step: 2·layers + 1, and none on a single rank."""
    return compare.function(answer, COUNT_CASES, hint=_count_hint)


def message_bytes(answer: Any) -> Verdict:
    """Bytes of one all-reduce while 256 sequences decode, hidden size 3,584, bf16."""
    hints = {
        MESSAGE / 256: "that is one sequence; a step carries a token of each of the 256",
        MESSAGE * 57: "that is all of a step; one message is wanted",
        MESSAGE / 2: "a partial sum has the full hidden size on every rank, and bf16 has two bytes",
        MESSAGE / 4: "a partial sum has the full hidden size on every rank: TP does not divide it",
        MESSAGE * 2: "bf16 has two bytes",
    }
    hint = next((text for value, text in hints.items() if _near(answer, value)), "")
    return compare.number(
        answer, MESSAGE, rel=1e-9, unit="bytes", hint=hint or "sequences × hidden size × bytes"
    )


def fitting_sizes(answer: Any) -> Verdict:
    """The TP sizes that 28 heads, 4 KV heads and a feed-forward width of 18,944 allow."""
    if not isinstance(answer, list | tuple | set | frozenset) or not all(type(n) is int for n in answer):
        return Verdict(False, f"a list of whole numbers is wanted, found {answer!r}")
    found = sorted(set(answer))
    if found == SIZES:
        return Verdict(True, "1, 2 and 4")
    extra, missing = [n for n in found if n not in SIZES], [n for n in SIZES if n not in found]
    if extra:
        return Verdict(False, f"TP={extra[0]} does not fit", _size_hint(extra[0]))
    return Verdict(False, f"{found} is not all", f"{len(missing)} more: try every divisor of 28")


def _block_fault(found: Any, weight: Any, rank: int, ranks: int, axis: int) -> str:
    expected = np.split(weight, ranks, axis)[rank]
    if found.shape != expected.shape:
        return f"has shape {list(found.shape)}, expected {list(expected.shape)}"
    return "" if (found == expected).all() else "has the right shape and wrong elements"


def _block_hint(found: Any, weight: Any, rank: int, ranks: int, axis: int) -> str:
    def equal(other: Any) -> bool:
        return found.shape == other.shape and bool((found == other).all())

    if equal(weight):
        return "every rank got the whole matrix: column cuts dim 0, row cuts dim 1"
    if any(equal(piece) for piece in np.split(weight, ranks, 1 - axis)):
        return (
            "[out, in]: a column-parallel layer keeps all inputs, so it cuts dim 0; a row-parallel one dim 1"
        )
    if equal(weight[rank::ranks] if axis == 0 else weight[:, rank::ranks]):
        return "blocks must be contiguous: the next layer's row shard expects neighbouring columns"
    if any(equal(piece) for piece in np.split(weight, ranks, axis)):
        return f"that is another rank's block: rank {rank} starts at {rank} times the length of a block"
    return "cut one dimension into `ranks` blocks of equal length and take block number `rank`"


def _refuses(answer: Callable[..., Any], arguments: tuple[Any, ...], what: str) -> Verdict | None:
    """None if the answer raises a ValueError, as it should."""
    try:
        answer(*arguments)
    except ValueError:
        return None
    except NotImplementedError:
        raise
    except Exception as error:
        return Verdict(False, f"{what}: raised {type(error).__name__}, a ValueError is wanted")
    return Verdict(False, f"{what}: no error", f"drop no remainder silently: {what} is a ValueError")


def _kv_hint(arguments: tuple[Any, ...], found: Any) -> str:
    rank, ranks, heads, kv_heads = arguments
    if found == []:
        return "there are fewer KV heads than ranks: copy, do not starve"
    if ranks > kv_heads and found == [rank % kv_heads]:
        return (
            f"rank % kv_heads gives rank {rank} head {found[0]}, but its query heads belong to another group"
        )
    if found == list(range(rank * heads // ranks, (rank + 1) * heads // ranks)):
        return "those are query heads; each group of heads / kv_heads of them shares one KV head"
    if found == list(range(kv_heads)) and ranks > 1:
        return "that is every KV head: a rank needs only those of its own query heads"
    return "first find this rank's query heads, then the KV head of each: head // (heads / kv_heads)"


def _kv_refusal(rank: int, ranks: int, heads: int, kv_heads: int) -> str:
    if heads % ranks == 0:
        return f"{ranks} divides {heads} heads, and yet {kv_heads} KV heads cannot be dealt to {ranks} ranks"
    return f"{heads} heads over {ranks} ranks"


def _count_hint(arguments: tuple[Any, ...], found: Any) -> str:
    layers, ranks = arguments
    if ranks == 1:
        return "a single rank holds the whole sum: the layer leaves the message out"
    if found in (ranks * (2 * layers + 1), (ranks - 1) * (2 * layers + 1)):
        return "every rank takes part in the same message: the count does not grow with TP"
    known = {
        2 * layers: "one more: the embedding is cut by token id, so its rows are added up, too",
        layers: "two in each layer: after attention and after the feed-forward block",
        layers + 1: "two in each layer: after attention and after the feed-forward block",
        2 * layers + 2: "the logits are gathered, not added: that is another kind of message",
    }
    return known.get(found, "how many row-parallel matrices has a layer, and what does the embedding need?")


def _size_hint(tp: int) -> str:
    if 28 % tp:
        return f"28 heads / {tp} leaves a rest"
    if tp == 7:
        return "4 KV heads over 7 ranks, and 18,944 / 7"
    return "look at the KV heads, then at 18,944"


def _near(found: Any, value: float) -> bool:
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return number and math.isclose(found, value, rel_tol=1e-6)


def _largest(record: Record) -> int:
    return max(numbers.loaded(record), default=1)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _room(record: Record) -> float | None:
    rows = numbers.capacity(record)
    return rows[-1]["ratio"] if rows and rows[-1]["tp"] > 1 else None


def _in_use(record: Record) -> float | None:
    return _percent(numbers.used_ratio(record, _largest(record))) if _largest(record) > 1 else None


CHECKS: dict[str, Check] = {
    "W5.N1.C1": Check(2, shard),
    "W5.N1.C2": Check(2, kv_heads_of),
    "W5.N1.C3": Check(1, all_reduces),
    "W5.N1.Q1": Check(1, message_bytes),
    "W5.N1.Q2": Check(1, fitting_sizes),
}

MEASURED: dict[str, Callable[[Record], Any]] = {
    "W5.N1.P1": lambda record: numbers.start_up(record, _largest(record))["ratio"],
    "W5.N1.P2": lambda record: _percent(shards.share(record, 2, 1)),
    "W5.N1.P3": _room,
    "W5.N1.P4": _in_use,
    "W5.N1.P5": numbers.between_sizes,
}
