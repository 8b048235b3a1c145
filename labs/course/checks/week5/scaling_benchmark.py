"""Checks of notebook week5/03_scaling_benchmark, and what its Record says about each prediction."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.analysis.week5 import scaling_step as step
from labs.core.record import Record
from labs.course.checks import Check, Verdict, compare

SHARE_CASES = [
    ((28, 7.3e-6, 2.523e-3), 57 * 7.3e-6 / 2.523e-3),
    ((4, 4e-6, 4e-4), 0.09),
    ((4, 0.0, 1.0), 0.0),
]
BYTES_CASES = [((1000, 2), 1000.0), ((1000, 4), 1500.0), ((7168, 1), 0.0)]
TIME_CASES = [
    ((0, 4, 1e-6, 1e11), 6e-6),
    ((1e9, 4, 0.0, 1e11), 0.015),
    ((7168, 2, 1e-6, 1e11), 2e-6 + 7168 / 1e11),
    ((7168, 1, 1e-6, 1e11), 0.0),
]
KARP_FLATT_CASES = [
    ((4.0, 4), 0.0),
    ((1.0, 4), 1.0),
    ((2.0, 4), 1 / 3),
    ((0.8, 2), 1.5),
    ((1 / (0.2 + 0.8 / 8), 8), 0.2),
]


def share(answer: Any) -> Verdict:
    """`communication_share(layers, all_reduce_s, step_s)`: (2·layers + 1) · time / step."""
    return compare.function(answer, SHARE_CASES, rel=1e-6, tol=1e-12, hint=_share_hint)


def ring(answers: Any) -> Verdict:
    """The pair (ring_bytes, all_reduce_s): bytes that each rank sends; time by alpha and bandwidth."""
    if not isinstance(answers, list | tuple) or len(answers) != 2:
        return Verdict(False, "two functions are wanted: [ring_bytes, all_reduce_s]")
    sent = compare.function(answers[0], BYTES_CASES, rel=1e-9, tol=1e-12, hint=_bytes_hint)
    if not sent.passed:
        return sent
    took = compare.function(answers[1], TIME_CASES, rel=1e-9, tol=1e-15, hint=_time_hint)
    if not took.passed:
        return Verdict(False, took.message, took.hint, score=0.5)
    return Verdict(True, f"all {len(BYTES_CASES) + len(TIME_CASES)} cases")


def karp_flatt(answer: Any) -> Verdict:
    """`karp_flatt(speed, ranks)`: (1/S − 1/N) / (1 − 1/N)."""
    return compare.function(answer, KARP_FLATT_CASES, rel=1e-9, tol=1e-12, hint=_karp_flatt_hint)


def price_ratio(answer: Any) -> Verdict:
    """How many times dearer a token is at TP=4 when the speed-up is 2.56."""
    hints = {
        0.64: "that is the efficiency; the ratio of costs is its inverse",
        4.0: "four devices cost four times as much an hour, but they also make more tokens",
        2.56: "that is the speed-up",
    }
    return compare.number(answer, 4 / 2.56, rel=0, tol=0.0126, unit="×", hint=_of_value(answer, hints))


def _share_hint(arguments: tuple[Any, ...], found: Any) -> str:
    layers, each, whole = arguments
    calls = found * whole / each if isinstance(found, int | float) and each else None
    if calls is None:
        return "no all-reduce time, no share"
    for count, text in (
        (100 * (2 * layers + 1), "a share is wanted, not per cent"),
        (2 * layers, "one all-reduce more: the embedding is split by vocabulary, too"),
        (layers, "two in each layer: after attention and after the feed-forward block"),
        (layers + 1, "two in each layer: after attention and after the feed-forward block"),
    ):
        if math.isclose(calls, count, rel_tol=1e-6):
            return text
    return "count the all-reduces of a step, multiply by the time of one, divide by the step"


def _bytes_hint(arguments: tuple[Any, ...], found: Any) -> str:
    size, ranks = arguments
    if _near(found, (ranks - 1) / ranks * size):
        return "a ring all-reduce is a reduce-scatter and an all-gather: each rank sends twice"
    if _near(found, 2 * (ranks - 1) * size):
        return "each of the 2·(N − 1) steps carries size/N, not size"
    if ranks == 1:
        return "a single rank has nobody to send to"
    return "2·(N − 1) steps, and each carries one N-th of the message"


def _time_hint(arguments: tuple[Any, ...], found: Any) -> str:
    size, ranks, alpha, speed = arguments
    sent = 2 * (ranks - 1) / ranks * size
    if ranks == 1:
        return "a single rank has nobody to wait for: no step, no time"
    if alpha and _near(found, sent / speed):
        return "with 7 KB the bytes are nearly free and the steps are not: where is alpha?"
    if alpha and any(_near(found, k * alpha + sent / speed) for k in (1, ranks - 1, ranks)):
        return "each of the 2·(N − 1) steps pays alpha"
    if _near(found, 2 * (ranks - 1) * alpha + size / speed):
        return "not the message goes over the wire, but the bytes that each rank sends: use ring_bytes"
    if _near(found, 2 * (ranks - 1) * alpha + sent * speed):
        return "bytes over bytes per second are seconds: divide"
    return "steps times alpha, plus the bytes that each rank sends over the bandwidth"


def _karp_flatt_hint(arguments: tuple[Any, ...], found: Any) -> str:
    speed, ranks = arguments
    right = (1 / speed - 1 / ranks) / (1 - 1 / ranks)
    if _near(found, speed / ranks):
        return "that is the efficiency; the serial fraction is wanted"
    if _near(found, -right):
        return "the sign is the other way round: 1/S comes first"
    if right > 1 and _near(found, 1):
        return "do not clip: e above 1 says that work was added"
    if _near(found, 1 / speed - 1 / ranks):
        return "divide by 1 − 1/N, the part that could have been saved at most"
    return "solve 1/S = e + (1 − e)/N for e"


def _of_value(answer: Any, hints: Mapping[float, str]) -> str:
    found = (text for value, text in hints.items() if _near(answer, value, 0.005))
    return next(found, "N devices cost N times as much an hour and make S times the tokens")


def _near(found: Any, value: float, rel: float = 1e-6) -> bool:
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return number and math.isclose(found, value, rel_tol=rel, abs_tol=1e-18)


def _speedup(record: Record) -> float | None:
    row = numbers.at(record, "saturated", 2)
    return row["speedup"] if row else None


def _gains_most(record: Record) -> str | None:
    return " or ".join(numbers.gains_most(record, 2)) or None


def _share_percent(record: Record) -> float | None:
    found = step.step_time(record, 2)["share"]
    return None if found is None else 100 * found


CHECKS: dict[str, Check] = {
    "W5.N3.C1": Check(1, share),
    "W5.N3.C2": Check(2, ring),
    "W5.N3.C3": Check(2, karp_flatt),
    "W5.N3.Q1": Check(1, price_ratio),
}

MEASURED: dict[str, Callable[[Record], Any]] = {
    "W5.N3.P1": _speedup,
    "W5.N3.P2": _gains_most,
    "W5.N3.P3": _share_percent,
    "W5.N3.P4": lambda record: step.floor(record, 1)["ratio"],
}
