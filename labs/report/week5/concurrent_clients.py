"""Figures of the run of unequal clients: slowdowns by client, and when each request waited and decoded."""

from collections.abc import Sequence

import plotly.graph_objects as go

from labs.analysis.week5 import concurrent_clients as clients
from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.record import Record
from labs.core.stats import summarize
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import concurrent_parts as parts

Records = Sequence[Record]
NO_CLIENTS = "No run of unequal clients yet: lab.measure('server') makes one, and no recorded run is kept."
MEASURES = {  # control value -> axis title
    "slowdown": "Slowdown, E2E under load / alone (×)",
    "TTFT": theme.axis_title("TTFT", "ms"),
    "TPOT": theme.axis_title("TPOT", "ms"),
}
ORDERS = ("client", "arrival")
POINTS_UP_TO = 120  # a box of more requests shows outliers only


def draw_fairness(records: Records, predictions: Predictions, measure: str = "slowdown") -> go.Figure:
    """A box a client and run over its requests."""
    if not any(clients.by_client(record, measure) for record in records):
        return figure.empty_figure(NO_CLIENTS)
    fig = go.Figure(layout={"boxmode": "group"})
    for i, record in enumerate(records):
        found = clients.by_client(record, measure)
        own = record.provenance.source == "measured"
        color = theme.COLORS[i % len(theme.COLORS)]
        values = [value for client in found for value in found[client]]
        fig.add_box(
            x=[client_name(client) for client in found for _ in found[client]],
            y=values,
            name=figure.source_label(record),
            offsetgroup=str(i),
            line={"color": color, "width": 2 if own else 1.2},
            fillcolor=theme.tint(color, 0.35 if own else 0.08),
            boxpoints="all" if len(values) <= POINTS_UP_TO else "outliers",
            jitter=0.5,
            pointpos=0,
            marker={"color": color, "size": 5, "opacity": 0.6, "symbol": "circle" if own else "circle-open"},
            meta={"source": record.provenance.source},
        )
    _mark_prediction(fig, parts.own(records), predictions, measure)
    fig.update_xaxes(title="Client")
    fig.update_yaxes(title=MEASURES[measure])
    return fig


def fairness_sentence(records: Records, predictions: Predictions, measure: str = "slowdown") -> str:
    """Medians of the burst and of the others, their ratio, Jain's index, and who got the tokens."""
    record = parts.first(records, clients.fairness)
    found = clients.fairness(record) if record else None
    if record is None or found is None:
        return "No request was measured alone, so there is no slowdown."
    (load,) = record.rows("load", run="clients")[:1]
    jain = [figure.format_value(found[key], 3) for key in ("jain_requests", "jain_clients")]
    return (
        f"{parts.who(record)}: the clients' median slowdowns lie {figure.format_value(found['spread'], 3)}× "
        f"apart; a polite client's is {figure.format_value(found['polite_over_burst'], 3)} times that of the "
        f"burst. Jain's index over 1/slowdown is {jain[0]} by request and {jain[1]} by client "
        f"(n={found['n']} requests), and the burst got {found['burst_share']:.0%} of all tokens. "
        f"{parts.late(numbers.point(record, load))}"
    )


def fairness_table(records: Records, predictions: Predictions, measure: str = "slowdown") -> Table:
    """Every client of every run; its lateness stands in each row of a run."""
    table: Table = []
    for record in records:
        for load in record.rows("load", run="clients"):
            late = parts.lateness(numbers.point(record, load))
            for client, values in clients.by_client(record, measure).items():
                found = summarize(values)
                table.append(
                    {
                        "source": figure.source_label(record),
                        "client": client_name(client),
                        f"{MEASURES[measure]}, median": found.median,
                        "range": parts.span(found.min, found.max),
                        "requests": found.n,
                        **late,
                    }
                )
    return table


def draw_timeline(
    records: Records, predictions: Predictions, source: str | None = None, order: str = "client"
) -> go.Figure:
    """A line a request: from the intended send to the first token, then to the last. Drag to zoom."""
    record = _chosen(records, source)
    rows = _ordered(record, order) if record else []
    if record is None or not rows:
        return figure.empty_figure(NO_CLIENTS)
    label, own = figure.source_label(record), record.provenance.source == "measured"
    fig = go.Figure(layout={"bargap": 0.1, "barmode": "overlay", "height": min(560, 180 + 4 * len(rows))})
    ys = list(range(len(rows)))
    for name, whose, start, end, color in (
        ("until the first token", None, "due_s", "first_s", theme.COLORS[4]),
        ("answer of the burst", True, "first_s", "last_s", theme.COLORS[0]),
        ("answer of a polite client", False, "first_s", "last_s", theme.COLORS[2]),
    ):
        found = [i for i in ys if whose is None or whose == (rows[i]["client"] == clients.BURST)]
        fig.add_bar(
            orientation="h",
            y=found,
            base=[rows[i][start] for i in found],
            x=[rows[i][end] - rows[i][start] for i in found],
            name=f"{name} ({label})",
            customdata=[f"{client_name(rows[i]['client'])}, request {rows[i]['request']}" for i in found],
            hovertemplate="%{customdata}<br>%{base:.3f} s, for %{x:.3f} s<extra></extra>",
            marker={"color": color if own else theme.tint(color, 0.55), "line": {"width": 0}},
            meta={"source": record.provenance.source},
        )
    starts = [i for i in ys if i == 0 or rows[i]["client"] != rows[i - 1]["client"]]
    if order == "client":
        ends = [*starts[1:], len(rows)]
        ticks = {"tickvals": [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]}
        fig.update_yaxes(**ticks, ticktext=[client_name(rows[i]["client"]) for i in starts])
        for i in starts[1:]:
            fig.add_hline(y=i - 0.5, line={"color": theme.MUTED, "width": 1})
    else:
        fig.update_yaxes(showticklabels=False, ticks="")
    fig.update_yaxes(title="Request, by " + order, range=[len(rows) - 0.5, -0.5], showgrid=False)
    fig.update_xaxes(title=theme.axis_title("Time since the burst was due", "s"), rangemode="tozero")
    return fig


def timeline_sentence(
    records: Records, predictions: Predictions, source: str | None = None, order: str = "client"
) -> str:
    """How much of the requests' time passed before their first token, for the burst and for the others."""
    record = _chosen(records, source)
    assert record is not None  # draw_timeline had rows
    waits = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for row in clients.timeline(record):
        sums = waits[row["client"] == clients.BURST]
        sums[0] += row["first_s"] - row["due_s"]
        sums[1] += row["last_s"] - row["due_s"]
    share = {key: wait / whole if whole else None for key, (wait, whole) in waits.items()}
    burst, polite = (figure.NOT_MEASURED if v is None else f"{v:.0%}" for v in (share[True], share[False]))
    (load,) = record.rows("load", run="clients")[:1]
    return (
        f"{parts.who(record)}: before their first token passed {burst} of the time of the burst's requests "
        f"and {polite} of the polite clients' (n={len(clients.timeline(record))} requests). "
        f"{parts.late(numbers.point(record, load))}"
    )


def timeline_table(
    records: Records, predictions: Predictions, source: str | None = None, order: str = "client"
) -> Table:
    """Every request as it is drawn."""
    record = _chosen(records, source)
    return [
        {
            "source": figure.source_label(record),
            "client": client_name(row["client"]),
            "request": row["request"],
            "due s": row["due_s"],
            "first token s": row["first_s"],
            "last token s": row["last_s"],
        }
        for row in (_ordered(record, order) if record else [])
        if record
    ]


def client_name(client: int) -> str:
    """Client 0 is the one that sends all at once."""
    return "burst" if client == clients.BURST else f"polite {client}"


def sources(records: Records) -> list[str]:
    """The runs that have a timeline, by name."""
    return list(dict.fromkeys(figure.source_label(one) for one in records if clients.timeline(one)))


def _chosen(records: Records, source: str | None) -> Record | None:
    return parts.first(records, lambda one: figure.source_label(one) == source and clients.timeline(one))


def _ordered(record: Record, order: str) -> list[dict]:
    rows = clients.timeline(record)
    return sorted(rows, key=lambda row: row["client"]) if order == "client" else rows


def _mark_prediction(fig: go.Figure, record: Record | None, predictions: Predictions, measure: str) -> None:
    said = parts.number(predictions, "W5.N2.P4")
    burst = summarize(clients.by_client(record).get(clients.BURST, [])).median if record else None
    if record and said is not None and burst and measure == "slowdown":
        polite = [client_name(client) for client in clients.by_client(record) if client != clients.BURST]
        text = f"median of a polite client {said:.3g}× the burst's"
        figure.prediction_marker(fig, polite, [said * burst] * len(polite), text=text)


FAIRNESS = FigureSpec(
    "fairness",
    "One client bursts, the others do not: who waits?",
    draw_fairness,
    fairness_sentence,
    fairness_table,
    controls={"measure": Control("Show", tuple(MEASURES), kind="dropdown")},
)
TIMELINE = FigureSpec(
    "timeline",
    "Every request of the burst and of the others",
    draw_timeline,
    timeline_sentence,
    timeline_table,
    controls={
        "source": Control("Run", sources, kind="dropdown"),
        "order": Control("Sorted by", ORDERS, kind="dropdown"),
    },
)
