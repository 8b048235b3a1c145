"""What the figures of the concurrency notebook share: percentiles by name, the client's lateness, endings."""

from collections.abc import Sequence
from typing import Any

from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.record import Record
from labs.core.stats import percentile
from labs.report import figure
from labs.report.figure import Control
from labs.report.week5.scaling_parts import first as first
from labs.report.week5.scaling_parts import number as number
from labs.report.week5.scaling_parts import own as own
from labs.report.week5.scaling_parts import panels as panels
from labs.report.week5.scaling_parts import span as span
from labs.report.week5.scaling_parts import who as who

Records = Sequence[Record]
LATENCY = Control("Latency", tuple(numbers.LATENCIES), kind="dropdown")


def percentiles(*modes: str) -> Control:
    """A control that offers the percentiles which the requests of these modes can carry."""
    return Control("Percentile", lambda records: numbers.carried(records, modes), kind="dropdown")


def at(record: Record, run: str, latency: str, p: int | None) -> float | None:
    """A percentile of a run's latency, ms; None if its n cannot carry it."""
    return None if p is None else percentile(numbers.samples_ms(record, run, latency), p)


def nth(p: int | None) -> str:
    """`median`, `p90`."""
    return figure.NOT_MEASURED if p is None else "median" if p == 50 else f"p{p}"


def with_unit(value: float | None, unit: str, digits: int = 3) -> str:
    """`12.3 ms`, or `not measured`."""
    return figure.format_value(value, digits) + ("" if value is None else f" {unit}")


def late(point: dict[str, Any]) -> str:
    """What the client says about itself, for the sentence beside a latency."""
    n = "" if point["late_n"] is None else f", n={point['late_n']}"
    what = "sent" if point["mode"] not in ("closed", "alone") else "woke"
    p99, most = with_unit(point["late_p99_ms"], "ms"), with_unit(point["late_max_ms"], "ms")
    return f"The client itself {what} late by {most} at most, p99 {p99} ({point['run']}{n})."


def lateness(point: dict[str, Any]) -> dict[str, Any]:
    """The same as columns of a table."""
    return {
        "client late p99 ms": point["late_p99_ms"],
        "client late max ms": point["late_max_ms"],
        "samples of lateness": point["late_n"],
    }


def ends(points: Sequence[dict[str, Any]], column: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The points with the least and the greatest load."""
    return min(points, key=lambda point: point[column]), max(points, key=lambda point: point[column])
