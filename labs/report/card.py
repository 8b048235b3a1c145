"""The Card itself, HTML with a plain-text fallback, and the Number that it shows; `cards` makes the kinds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labs.core import stats
from labs.report.marks import format_value
from labs.report.markup import styled

Status = Literal["pass", "wrong", "not attempted", "error"]
EDGES = {  # (colour variable, line): the line alone tells them apart
    "pass": ("--ok", "solid"),
    "wrong": ("--bad", "double"),
    "not attempted": ("--off", "dotted"),
    "error": ("--err", "dashed"),
    "plain": ("--own", "solid"),
}


@dataclass(frozen=True)
class Card:
    """A piece of HTML with its plain text; `body` is already escaped."""

    text: str
    body: str
    tone: str = "plain"

    def html(self) -> str:
        """The card without the style sheet, for a page that has it."""
        color, line = EDGES[self.tone]
        return (
            f'<section class="labs card" style="--edge:var({color});border-left-style:{line}">'
            f"{self.body}</section>"
        )

    def _repr_html_(self) -> str:
        return styled(self.html())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": self.text}

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


@dataclass(frozen=True)
class Number:
    """One measured number: the median of `n` samples from `low` to `high`; None was not measured."""

    label: str
    value: float | int | str | None
    unit: str = ""
    n: int | None = None
    low: float | None = None
    high: float | None = None
    predicted: Any = None  # what the learner said beforehand, in the same unit

    @classmethod
    def of(
        cls, label: str, samples: Sequence[float | None], unit: str = "", predicted: Any = None
    ) -> "Number":
        """The median, n and range of samples."""
        found = stats.summarize(samples)
        return cls(label, found.median, unit, found.n, found.min, found.max, predicted)

    def main(self) -> str:
        """`61 tokens/s`, or `not measured`."""
        shown = format_value(self.value)
        return shown if self.value is None else f"{shown} {self.unit}".rstrip()

    def spread(self) -> str:
        """`60 to 62.5, n=3`, `n=1`, or nothing."""
        if self.n is None or self.value is None:
            return ""
        if self.n < 2 or self.low is None or self.high is None:
            return f"n={self.n}"
        return f"{format_value(self.low)} to {format_value(self.high)}, n={self.n}"

    def prediction(self) -> str:
        """`you said 90 tokens/s`, or nothing."""
        return (
            "" if self.predicted is None else f"you said {format_value(self.predicted)} {self.unit}".rstrip()
        )

    def line(self) -> str:
        """All of it as text."""
        asides = "; ".join(part for part in (self.spread(), self.prediction()) if part)
        return f"{self.label}: {self.main()}" + (f" ({asides})" if asides else "")
