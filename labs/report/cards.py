"""Cards: what a notebook shows besides figures. Each is an object that displays as HTML or prints as text.

environment(…)   what is here: hardware, versions, model and weights, what is real and what is recorded
result(…)        3 to 5 numbers of a Record with n and spread, its gates, its source, and predictions beside
check(…)         PASS, WRONG, NOT ATTEMPTED or ERROR: told apart by the word and the edge, not by colour alone
failure(…)       one clear message, its details folded; a drill says that the failure was asked for
scoreboard(…)    points, predictions against measurements, seconds, cost, leftover processes
note(…)          one plain message, such as "predict first"
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.core.record import Gate, Record
from labs.report.card import EDGES, Card, Number, Status
from labs.report.marks import NOT_MEASURED, format_value
from labs.report.markup import esc, html_table, text_table

__all__ = ["Card", "Number", "Status", "check", "environment", "failure", "note", "result", "scoreboard"]


def environment(
    title: str,
    *,
    hardware: Mapping[str, Any],
    profile: str,
    versions: Mapping[str, str | None],
    model: str,
    weights: str,
    model_note: str = "",
    tp_sizes: Sequence[int] = (),
    more_tp_sizes: Sequence[int] = (),
    recorded: Sequence[Record] = (),
    notes: Sequence[str] = (),
) -> Card:
    """What the notebook runs on. `hardware`: a Hardware as a dict (`summary`, `memory_bytes`, `driver`).

    `tp_sizes` are run unless others are asked for; `more_tp_sizes` run too, such as more ranks than cores.
    """
    installed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    memory = hardware.get("memory_bytes")
    facts = {
        "Hardware": str(hardware.get("summary", "unknown"))
        + (f", {memory / 2**30:.0f} GiB memory" if memory else "")
        + (f", driver {hardware['driver']}" if hardware.get("driver") else ""),
        "Software": installed or "unknown",
        "Profile": profile,
        "Model": f"{model} ({WEIGHTS.get(weights, weights)})" + (f". {model_note}" if model_note else ""),
        "TP sizes here": (", ".join(map(str, tp_sizes)) or "none")
        + (f"; on request also {', '.join(map(str, more_tp_sizes))}" if more_tp_sizes else ""),
        "Measured": "what is labelled measured is run on this machine",
        "Recorded": "; ".join(
            dict.fromkeys(record.label().removeprefix("recorded on ") for record in recorded)
        )
        or "no recorded run is kept for this notebook",
    }
    if notes:
        facts["Note"] = " ".join(notes)
    rows = "".join(f"<dt>{esc(key)}</dt><dd>{esc(value)}</dd>" for key, value in facts.items())
    width = max(map(len, facts))
    text = "\n".join([title, *(f"  {key.ljust(width)}  {value}" for key, value in facts.items())])
    return Card(text, f"<h4>{esc(title)}</h4><dl>{rows}</dl>")


WEIGHTS = {
    "real": "its own weights",
    "dummy": "dummy weights: shapes and speed are real, its words mean nothing",
    "tiny": "the workbook's tiny model",
}


def result(
    title: str,
    record: Record,
    *,
    numbers: Sequence[Number] = (),
    table: Sequence[Mapping[str, Any]] = (),
    path: Path | str | None = None,
) -> Card:
    """What a run found: `numbers` large, then `table` (an experiment's summary), gates and source."""
    origin = record.provenance
    took = "time not measured" if record.seconds is None else f"{record.seconds:.1f} s"
    items = "".join(
        f"<li><span>{esc(n.label)}</span><b>{esc(n.main())}</b>"
        f'<span class="dim">{"<br>".join(esc(s) for s in (n.spread(), n.prediction()) if s)}</span></li>'
        for n in numbers
    )
    notes = "".join(f'<p class="dim">{esc(note)}</p>' for note in origin.notes)
    footer = " · ".join([record.label(), took, *([f"kept in {path}"] if path else [])])
    body = (
        f"<h4>{esc(title)}</h4>{badges(record)}"
        + (f'<ul class="numbers">{items}</ul>' if items else "")
        + html_table(table, f"Summary of {title}")
        + html_table(gate_rows(record.gates), "Correctness gates, passed before any timing was kept")
        + f'{notes}<p class="dim">{esc(footer)}</p>'
    )
    text = [title, *(f"  {number.line()}" for number in numbers)]
    text += [block for block in (text_table(table), text_table(gate_rows(record.gates))) if block]
    return Card("\n".join([*text, *origin.notes, footer]), body)


def badges(record: Record) -> str:
    """Measured or recorded, and whose weights, as two small labels."""
    origin = record.provenance
    words = {"real": "real weights", "dummy": "dummy weights", "tiny": "tiny model"}[origin.weights]
    return (
        f'<span class="badge {origin.source}">{origin.source}</span><span class="badge plain">{words}</span>'
    )


def gate_rows(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """Gates as rows of a table; a gate without a value compares things that are equal or not."""
    detailed = any(gate.detail for gate in gates)
    return [
        {
            "gate": gate.name,
            "outcome": "passed" if gate.passed else "FAILED",
            "found": "" if gate.value is None else format_value(gate.value),
            "passes up to": "" if gate.tolerance is None else format_value(gate.tolerance),
            **({"detail": gate.detail} if detailed else {}),
        }
        for gate in gates
    ]


def check(
    name: str, status: Status, message: str = "", *, hint: str = "", points: float = 0, earned: float = 0
) -> Card:
    """The outcome of one exercise."""
    word = status.upper()
    score = f"{format_value(earned)} of {format_value(points)} {'point' if points == 1 else 'points'}"
    parts = [f"{name}: {word}", message, f"Hint: {hint}" if hint else "", score if points else ""]
    body = (
        f'<p><span class="badge" style="--tone:var({EDGES[status][0]})">{word}</span><b>{esc(name)}</b> '
        f'<span class="dim">{esc(parts[3])}</span></p>'
        + (f"<p>{esc(message)}</p>" if message else "")
        + (f"<p>{esc(parts[2])}</p>" if hint else "")
    )
    return Card("\n  ".join(part for part in parts if part), body, status)


def failure(title: str, message: str, details: str = "", *, drill: bool = False) -> Card:
    """A failed run (or a user's mistake): the one message, its details to unfold. A drill was asked for."""
    word = "DRILL" if drill else "FAILED"
    folded = f"<details><summary>Details</summary><pre>{esc(details)}</pre></details>" if details else ""
    tone = "plain" if drill else "error"
    body = (
        f'<p><span class="badge" style="--tone:var({EDGES[tone][0]})">{word}</span><b>{esc(title)}</b></p>'
        f"<pre>{esc(message)}</pre>{folded}"
    )
    return Card("\n".join(part for part in (f"{word} {title}", message, details) if part), body, tone)


def note(title: str, message: str = "") -> Card:
    """One plain message."""
    body = f"<h4>{esc(title)}</h4>" + (f"<p>{esc(message)}</p>" if message else "")
    return Card("\n".join(part for part in (title, message) if part), body)


def scoreboard(
    title: str,
    *,
    checks: Sequence[Mapping[str, Any]] = (),
    predictions: Sequence[Mapping[str, Any]] = (),
    explained: tuple[int, int] | None = None,
    seconds: float | None = None,
    cost: str | None = None,
    leftovers: Sequence[str] = (),
) -> Card:
    """The end of a notebook.

    checks: rows with `id`, `status` (a Status), `points`, `earned`. predictions: rows with `id`, `predicted`,
    `measured`, `unit`. explained: (written, asked). cost: a sentence. leftovers: one line a process.
    """
    earned, points = (sum(row[key] for row in checks) for key in ("earned", "points"))
    check_table = [{**row, "status": str(row["status"]).upper()} for row in checks]
    facts = [f"{format_value(earned)} of {format_value(points)} points"] if checks else []
    facts += [f"{explained[0]} of {explained[1]} explanations written"] if explained else []
    facts.append(f"{NOT_MEASURED} how long it ran" if seconds is None else f"{seconds:.0f} s of measuring")
    facts += [cost] if cost else []
    ended = "No process of a run is left." if not leftovers else "Still running: " + "; ".join(leftovers)
    table = [{**row, "predicted": _said(row)} for row in predictions]
    body = (
        f"<h4>{esc(title)}</h4><p><b>{esc(' · '.join(facts))}</b></p>"
        + html_table(check_table, "Checked exercises")
        + html_table(table, "Predictions against measurements")
        + f"<p>{esc(ended)}</p>"
    )
    blocks = [title, " · ".join(facts), text_table(check_table), text_table(table), ended]
    return Card("\n".join(block for block in blocks if block), body, "error" if leftovers else "plain")


def _said(row: Mapping[str, Any]) -> str:
    """A prediction that was never made is not a measurement that is missing."""
    return "no prediction" if row.get("predicted") is None else format_value(row["predicted"])
