"""Checks of notebook week5/02_concurrent_requests, and what its Record says about each prediction."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from labs.analysis.week5 import concurrent_clients as clients
from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.record import Record
from labs.core.stats import percentile as reference_percentile
from labs.core.stats import summarize
from labs.course.checks import Check, Verdict, compare

TEN = [7.0, 3.0, 9.0, 1.0, 10.0, 5.0, 2.0, 8.0, 4.0, 6.0]
PERCENTILE_CASES: list[tuple[tuple[Any, ...], Any]] = [
    (([3.0, 1.0, 2.0], 50), 2.0),
    ((TEN, 90), 9.1),
    (([float(x) for x in range(1, 21)], 99), None),
    (([float(x) for x in range(100, 0, -1)], 99), 99.01),
    (([float(x) for x in range(1, 20)], 95), None),
    (([float(x) for x in range(1, 21)], 95), 19.05),
    (([], 50), None),
]
SEND_CASES: list[tuple[tuple[Any, ...], Any]] = [
    (([0.5, 0.25, 1.0],), [0.5, 0.75, 1.75]),
    (([],), []),
    (([0.0, 0.0, 2.0],), [0.0, 0.0, 2.0]),
]
LATE_CASES: list[tuple[tuple[Any, ...], Any]] = [
    (([1.0, 2.0], [1.0, 2.5]), [0.0, 0.5]),
    (([0.5, 0.75, 1.75], [0.75, 1.0, 1.75]), [0.25, 0.25, 0.0]),
    (([], []), []),
]
ROWS = [
    {"ttft": 0.1, "tpot": 0.010, "error": None},
    {"ttft": 0.3, "tpot": 0.010, "error": None},  # too late a first token
    {"ttft": 0.1, "tpot": 0.030, "error": None},  # too slow afterwards
    {"ttft": 0.2, "tpot": 0.020, "error": None},  # exactly at both limits
    {"ttft": 0.1, "tpot": None, "error": None},  # one token
    {"ttft": 0.1, "tpot": 0.010, "error": "the stream was cut"},
]
GOODPUT_CASES: list[tuple[tuple[Any, ...], Any]] = [
    ((ROWS, 0.2, 0.02, 2.0), 1.5),
    ((ROWS[:2], 0.2, 0.02, 4.0), 0.25),
    ((ROWS[1:3], 0.2, 0.02, 1.0), 0.0),
    ((ROWS[4:5], 0.2, 0.02, 1.0), 1.0),
    ((ROWS[5:], 0.2, 0.02, 1.0), 0.0),
]
JAIN_CASES: list[tuple[tuple[Any, ...], Any]] = [
    (([1.0, 1.0, 1.0, 1.0],), 1.0),
    (([1.0, 0.0, 0.0, 0.0],), 0.25),
    (([1.0, 2.0, 3.0],), 36 / 42),
    (([10.0, 20.0, 30.0],), 36 / 42),
]


def percentile(answer: Any) -> Verdict:
    """`percentile(samples, p)`: interpolated; None if n has no sample beyond p; the list unchanged."""
    found = compare.function(answer, PERCENTILE_CASES, rel=1e-9, hint=_percentile_hint)
    if found.passed:
        mine = [2.0, 3.0, 1.0]
        answer(mine, 50)
        if mine != [2.0, 3.0, 1.0]:
            hint = "list.sort() works in place; sorted(samples) makes a copy"
            return Verdict(False, "your function changed the list that it was given", hint, score=0.5)
    return found


def schedule(answers: Any) -> Verdict:
    """The pair (send_times, late_by): intended sends of an open loop, and how late each was sent."""
    if not isinstance(answers, list | tuple) or len(answers) != 2:
        return Verdict(False, "two functions are wanted: [send_times, late_by]")
    times = compare.function(answers[0], SEND_CASES, rel=1e-9, tol=1e-12, hint=_send_hint)
    if not times.passed:
        return times
    late = compare.function(answers[1], LATE_CASES, rel=1e-9, tol=1e-12, hint=_late_hint)
    if not late.passed:
        return Verdict(False, late.message, late.hint, score=0.5)
    return Verdict(True, f"all {len(SEND_CASES) + len(LATE_CASES)} cases")


def goodput(answer: Any) -> Verdict:
    """`goodput(rows, ttft_s, tpot_s, seconds)`: requests/s that meet both limits."""
    try:
        return compare.function(answer, GOODPUT_CASES, rel=1e-9, tol=1e-12, hint=_goodput_hint)
    except TypeError as error:
        if "NoneType" not in str(error):
            raise
        return Verdict(False, f"TypeError: {error}", "a one-token answer has no TPOT to miss")


def jain(answer: Any) -> Verdict:
    """`jain(shares)`: (Σx)² / (n·Σx²)."""
    return compare.function(answer, JAIN_CASES, rel=1e-9, tol=1e-12, hint=_jain_hint)


def little(answer: Any) -> Verdict:
    """Mean E2E in ms of 32 clients at 7,302 tok/s of 64-token answers."""
    right = 32 * 64 / 7302 * 1e3
    hints = {
        right / 64: "tokens are not requests: divide 7,302 by 64 first",
        right / 32: "that is the time between two completions; 32 requests are inside at a time",
        right / 1e3: "the unit is ms",
        7302 / 64: "that is requests/s; now divide the clients by it",
    }
    near = (text for value, text in hints.items() if _near(answer, value, 0.02))
    hint = next(near, "clients = requests/s × mean E2E, solved for the last")
    return compare.number(answer, right, rel=0.02, unit="ms", hint=hint)


def _percentile_hint(arguments: tuple[Any, ...], found: Any) -> str:
    samples, p = arguments
    right = reference_percentile(samples, p)
    if not samples:
        return "no samples, no percentile: None"
    if right is None:
        return (
            f"{len(samples)} samples have none beyond p{p}: that is the maximum under another name, so None"
        )
    if found is None:
        return f"{len(samples)} samples carry p{p}: n is enough from 100/min(p, 100 − p) on"
    if p == 90 and _near(found, 10.0):
        return "the position is (n − 1)·p/100; then interpolate"
    in_order = reference_percentile(sorted(samples), p)
    position = (len(samples) - 1) * p / 100
    low = math.floor(position)
    as_given = samples[low] + (samples[min(low + 1, len(samples) - 1)] - samples[low]) * (position - low)
    if _near(found, as_given) and not _near(as_given, in_order or 0.0):
        return "sort a copy first"
    return "sort a copy, take position (n − 1)·p/100, and interpolate between its two neighbours"


def _send_hint(arguments: tuple[Any, ...], found: Any) -> str:
    (gaps,) = arguments
    if gaps and found == gaps:
        return "these are the gaps; the schedule is their running sum"
    if isinstance(found, list) and found[:1] == [0.0] and len(found) in (len(gaps), len(gaps) + 1):
        return "the first request goes out after the first gap, not at 0"
    return "an open loop never waits: each intended time is the sum of all gaps so far"


def _late_hint(arguments: tuple[Any, ...], found: Any) -> str:
    intended, sent = arguments
    if isinstance(found, list) and found == [a - b for a, b in zip(intended, sent, strict=True)]:
        return "the sign is the other way round: late is sent − intended"
    return "sent − intended, request by request; one that was late does not move the others"


def _goodput_hint(arguments: tuple[Any, ...], found: Any) -> str:
    rows, ttft_s, tpot_s, seconds = arguments
    good = [r for r in rows if r["ttft"] <= ttft_s and (r["tpot"] is None or r["tpot"] <= tpot_s)]
    if any(r["error"] for r in good) and _near(found, len(good) / seconds):
        return "a failed request meets no limit, however soon its first token came"
    if _near(found, float(sum(not r["error"] for r in good))):
        return "a rate is wanted: divide by the seconds"
    whole = [r for r in rows if not r["error"]]
    if whole and _near(found, len(whole) / seconds):
        return "goodput judges each request by both limits, not the mean and not one of them"
    if (
        any(r["tpot"] is None for r in rows)
        and isinstance(found, int | float)
        and found < len(good) / seconds
    ):
        return "a one-token answer has no TPOT to miss, and a value at the limit still meets it"
    return "count the requests without error that meet both limits, each by itself; divide by the seconds"


def _jain_hint(arguments: tuple[Any, ...], found: Any) -> str:
    (shares,) = arguments
    total, squares, n = sum(shares), sum(x * x for x in shares), len(shares)
    if _near(found, 1.0) and len(set(shares)) > 1:
        return "the square of the sum, not the sum of the squares, stands on top"
    if _near(found, total * total / squares):
        return "a value above 1: n is missing below"
    if _near(found, total / (n * squares)) or _near(found, total / squares):
        return "both sides must be of second order, or the scale of the shares matters"
    return "(Σx)² over n·Σx²"


def _near(found: Any, value: float, rel: float = 1e-6) -> bool:
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return number and math.isclose(found, value, rel_tol=rel, abs_tol=1e-12)


def _alone(record: Record) -> float | None:
    ttft, tpot = (summarize(numbers.samples_ms(record, "alone", name)).median for name in ("TTFT", "TPOT"))
    return numbers.ratio(ttft, tpot)


def _growth(record: Record) -> float | None:
    points = sorted(numbers.sweep(record, "closed"), key=lambda point: point["concurrency"])
    return numbers.ratio(points[-1]["tokens_per_s"], points[0]["tokens_per_s"]) if points else None


def _overload(record: Record) -> float | None:
    points = sorted(numbers.sweep(record, "open"), key=lambda point: point["rate"])
    return numbers.ratio(points[-1]["ttft_ms"].median, points[0]["ttft_ms"].median) if points else None


def _polite(record: Record) -> float | None:
    found = clients.fairness(record)
    return found["polite_over_burst"] if found else None


def _served(record: Record) -> float | None:
    rates = numbers.batch_rates(record)
    return numbers.ratio(rates["server, at once"].median, rates["offline"].median)


CHECKS: Mapping[str, Check] = {
    "W5.N2.C1": Check(2, percentile),
    "W5.N2.Q1": Check(1, little),
    "W5.N2.C2": Check(2, schedule),
    "W5.N2.C3": Check(2, goodput),
    "W5.N2.C4": Check(1, jain),
}

MEASURED: Mapping[str, Callable[[Record], Any]] = {
    "W5.N2.P1": _alone,
    "W5.N2.P2": _growth,
    "W5.N2.P3": _overload,
    "W5.N2.P4": _polite,
    "W5.N2.P5": _served,
}
