"""The report of a week: one HTML page that works offline, on screen (light or dark) and on paper.

plotly.js is embedded once, from the installed package; nothing is loaded from elsewhere. A figure that cannot
be drawn says so in its place and leaves the others standing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labs.core import atomic
from labs.core.record import Record
from labs.report import cards, figure
from labs.report.card import Card
from labs.report.display import figure_html
from labs.report.figure import FigureSpec, Predictions
from labs.report.marks import format_value
from labs.report.markup import STYLE, Row, esc, html_table


@dataclass(frozen=True)
class Entry:
    """One notebook of the week, as it was run."""

    stem: str  # "week5/03_scaling_benchmark"
    title: str
    status: str  # "ok", "failed", "timed out", …
    seconds: float | None
    record: Record | None = None  # what it measured
    recorded: Sequence[Record] = ()  # runs of other machines, drawn beside it
    figures: Sequence[FigureSpec] = ()
    points: tuple[float, float] | None = None  # (earned, of)
    results: Sequence[Row] = ()  # the experiment's own summary of `record`
    predictions: Predictions = field(default_factory=dict)
    message: str = ""  # why it did not end well

    @property
    def anchor(self) -> str:
        """The id of its section."""
        return re.sub(r"\W+", "-", self.stem)


PAGE_STYLE = """
:root{color-scheme:light dark;--labs-fg:light-dark(#1f2933,#e4e7eb);--labs-dim:light-dark(#5a6672,#a3adb8);
--labs-line:light-dark(#d5dbe1,#3b444d);--labs-card:light-dark(#ffffff,#20262c)}
body{margin:0;background:light-dark(#f5f7f9,#14181c);color:var(--labs-fg);font:15px/1.55 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:24px 20px 60px}
h1{font-size:27px;margin:8px 0 2px}h2{font-size:20px;margin:44px 0 4px;padding-top:8px;
border-top:1px solid var(--labs-line)}
a{color:light-dark(#00558a,#7cc4f5)}.dim{color:var(--labs-dim)}
figure{margin:22px 0}figure .js-plotly-plot{background:#fff;border-radius:6px;overflow:hidden;
border:1px solid var(--labs-line)}
figcaption{padding:6px 2px}
.failed{border-left:6px dashed var(--err);padding-left:12px}
@media (max-width:520px){main{padding:12px 10px 40px}}
@media print{:root{color-scheme:light}body{background:#fff;font-size:11pt}main{max-width:none;padding:0}
figure,.labs.card,tr{break-inside:avoid}h2{break-after:avoid}a{color:inherit;text-decoration:none}
.labs.labs .scroll{overflow:visible}.labs.labs pre{max-height:none}}
"""
# Folded tables are opened for paper, and plots take the paper's width.
PAGE_SCRIPT = """
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(d => { d.dataset.was = d.open; d.open = true; });
  document.querySelectorAll(".js-plotly-plot").forEach(p => Plotly.Plots.resize(p));
});
addEventListener("afterprint", () => {
  document.querySelectorAll("details").forEach(d => { d.open = d.dataset.was === "true"; });
  document.querySelectorAll(".js-plotly-plot").forEach(p => Plotly.Plots.resize(p));
});
"""


def week_report(
    week: str, entries: Sequence[Entry], path: Path | str, environment: Card | None = None
) -> Path:
    """Write the report to `path`, whole or not at all; `environment` defaults to the first Record's."""
    return atomic.write_text(path, page(week, entries, environment))


def page(week: str, entries: Sequence[Entry], environment: Card | None = None) -> str:
    """The report as one HTML document."""
    from plotly.offline import get_plotlyjs

    title = f"Report of {week}"
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    card = environment or environment_of(entries)
    sections = "".join(section(entry) for entry in entries)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{esc(title)}</title><style>{STYLE}{PAGE_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script><script>{PAGE_SCRIPT}</script></head>\n<body><main>"
        f'<h1>{esc(title)}</h1><p class="dim">{esc(headline(entries))} Written {made}.</p>'
        f"{overview(entries)}{card.html() if card else ''}{sections}</main></body></html>\n"
    )


def headline(entries: Sequence[Entry]) -> str:
    """`3 notebooks, 2 ok, 412 s.`"""
    known = [entry.seconds for entry in entries if entry.seconds is not None]
    good = sum(entry.status == "ok" for entry in entries)
    plural = "" if len(entries) == 1 else "s"
    return f"{len(entries)} notebook{plural}, {good} ok" + (f", {sum(known):.0f} s." if known else ".")


def overview(entries: Sequence[Entry]) -> str:
    """The table of notebooks, with a link to each section."""
    table = [
        {
            "notebook": entry.stem,
            "what it asks": entry.title,
            "status": _status(entry),
            "seconds": None if entry.seconds is None else round(entry.seconds),
            "points": "" if entry.points is None else " of ".join(format_value(p) for p in entry.points),
            "gates passed": _gates(entry.record),
        }
        for entry in entries
    ]
    links = {entry.stem: f"#{entry.anchor}" for entry in entries}
    return f'<div class="labs">{html_table(table, "Notebooks of the week", links)}</div>'


def section(entry: Entry) -> str:
    """One notebook: how it ended, what it found, its figures."""
    took = "" if entry.seconds is None else f" in {entry.seconds:.0f} s"
    sources = [f'<p class="dim">{esc(record.label())}</p>' for record in _sources(entry)]
    body = (
        f"<p>{esc(entry.stem)}: <b>{esc(_status(entry))}</b>{took}.</p>"
        + (f'<pre class="failed">{esc(entry.message)}</pre>' if entry.message else "")
        + (cards.badges(entry.record) if entry.record else "<p>Nothing was measured.</p>")
        + html_table(entry.results, "Key results")
        + (html_table(cards.gate_rows(entry.record.gates), "Correctness gates") if entry.record else "")
        + "".join(sources)
        + _command(entry.record)
    )
    figures = "".join(_figure(entry, spec) for spec in entry.figures)
    return f'<h2 id="{entry.anchor}">{esc(entry.title)}</h2><div class="labs">{body}</div>{figures}'


def environment_of(entries: Sequence[Entry]) -> Card | None:
    """The environment card of the first Record that was measured here; None if nothing was."""
    for entry in entries:
        if entry.record is not None:
            origin = entry.record.provenance
            return cards.environment(
                "Where this ran",
                hardware=origin.hardware,
                profile=origin.profile,
                versions=origin.versions,
                model=origin.model,
                weights=origin.weights,
                tp_sizes=_tp_sizes(entry.record.config),
                recorded=[record for one in entries for record in one.recorded],
            )
    return None


def _figure(entry: Entry, spec: FigureSpec) -> str:
    try:
        drawn = figure.render(spec, _sources(entry), entry.predictions)
        return figure_html(drawn, f"{entry.anchor}-{spec.name}")
    except Exception as error:
        # One broken figure must not cost the report of a run that took minutes; it is named where it belongs.
        message = f"Figure {spec.name!r} could not be drawn: {type(error).__name__}: {error}"
        return f'<figure class="labs"><p class="failed">{esc(message)}</p></figure>'


def _sources(entry: Entry) -> list[Record]:
    return [*([entry.record] if entry.record else []), *entry.recorded]


def _status(entry: Entry) -> str:
    return entry.status if entry.status == "ok" else entry.status.upper()


def _gates(record: Record | None) -> str:
    if record is None:
        return ""
    return f"{sum(gate.passed for gate in record.gates)} of {len(record.gates)}"


def _command(record: Record | None) -> str:
    if record is None:
        return ""
    origin = record.provenance
    dirty = ", with uncommitted changes" if origin.git_dirty else ""
    commit = f"commit {origin.git_commit[:12]}{dirty}" if origin.git_commit else "no commit known"
    parts = [f"<code>{esc(origin.command)}</code>"] if origin.command else []
    return f'<p class="dim">{", ".join([*parts, esc(commit)])}</p>'


def _tp_sizes(config: Mapping[str, Any]) -> list[int]:
    sizes = config.get("tp")
    return list(sizes) if isinstance(sizes, list | tuple) else [sizes] if isinstance(sizes, int) else []
