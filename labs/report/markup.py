"""The HTML and plain text that cards, notebooks and the report share: escaping, tables, one style sheet.

Colours come from JupyterLab's own theme variables where there are any (light, dark, high contrast), from the
report's page otherwise, and from the browser's system colours as the last resort. Nothing is loaded.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from labs.report.marks import format_value

Row = Mapping[str, Any]
_UNBROKEN_CHARS = 24  # "3.92 to 4.12" stays on one line; a sentence breaks

STYLE = """
.labs{--fg:var(--labs-fg,var(--jp-ui-font-color1,CanvasText));--dim:var(--labs-dim,var(--jp-ui-font-color2,GrayText));
--line:var(--labs-line,var(--jp-border-color2,#8886));--card:var(--labs-card,var(--jp-layout-color1,Canvas));
--ok:#0a7d55;--bad:#c2410c;--off:#6b7280;--err:#b3134b;--own:#0072b2;
color:var(--fg);font:14px/1.5 var(--jp-ui-font-family,system-ui,sans-serif);max-width:62rem}
.labs.card{background:var(--card);border:1px solid var(--line);border-left:6px solid var(--edge,var(--own));
border-radius:6px;padding:10px 16px 12px;margin:6px 0}
.labs.labs h4{font-size:15px;font-weight:600;margin:0 0 4px;color:var(--fg)}.labs.labs p{margin:4px 0}
.labs.labs .dim{color:var(--dim)}
.labs.labs .badge{display:inline-block;border:1.5px solid var(--tone,var(--own));border-radius:4px;
padding:0 7px;font-size:12px;font-weight:600;margin:0 6px 0 0;white-space:nowrap}
.labs.labs .badge.recorded{border-style:dashed}
.labs.labs .badge.plain{border-color:var(--line);font-weight:400}
.labs.labs .numbers{display:flex;flex-wrap:wrap;gap:4px 30px;margin:8px 0;padding:0;list-style:none}
.labs.labs .numbers b{display:block;font-size:21px;font-weight:600;line-height:1.25}
.labs.labs .numbers li{margin:0;max-width:17rem}
.labs.labs .scroll{overflow-x:auto}
.labs.labs table{border-collapse:collapse;min-width:min(22rem,100%);margin:6px 0;
font-size:13px;color:var(--fg)}
.labs.labs caption{caption-side:top;text-align:left;color:var(--dim);padding:2px 0;font-size:13px}
.labs.labs th,.labs.labs td{padding:3px 12px 3px 0;text-align:left;vertical-align:top;
border:0;border-bottom:1px solid var(--line);font-weight:400;background:none;white-space:normal}
.labs.labs thead th{font-weight:600;vertical-align:bottom}
.labs.labs .short{white-space:nowrap}
.labs.labs .num{text-align:right;font-variant-numeric:tabular-nums}
.labs.labs pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;margin:6px 0;max-height:24rem;
overflow:auto;background:none;color:var(--fg)}
.labs.labs summary{cursor:pointer;color:var(--dim)}
.labs.labs dl{display:grid;grid-template-columns:max-content 1fr;align-items:start;gap:2px 14px;margin:6px 0}
.labs.labs dt{color:var(--dim);font-weight:400;margin:0;padding:0;width:auto;float:none}
.labs.labs dd{margin:0;padding:0;width:auto;float:none}
"""


def esc(text: object) -> str:
    """Text made safe for HTML content and attributes."""
    return html.escape(str(text), quote=True)


def styled(body: str) -> str:
    """`body` with the style sheet, for an output that stands alone in a notebook."""
    return f"<style>{STYLE}</style>{body}"


def columns(table: Sequence[Row]) -> list[str]:
    """Column names in the order in which rows first mention them."""
    return list(dict.fromkeys(name for row in table for name in row))


def html_table(table: Sequence[Row], caption: str, links: Mapping[str, str] | None = None) -> str:
    """An accessible table: caption, headers with scope, numbers to the right; "" without rows.

    `links` gives the address for a value of the first column.
    """
    if not table:
        return ""
    names = columns(table)
    numeric = {name for name in names if _numeric([row.get(name) for row in table])}
    head = "".join(f'<th scope="col"{_align(name in numeric)}>{esc(name)}</th>' for name in names)
    body = "".join(f"<tr>{_cells(row, names, numeric, links or {})}</tr>" for row in table)
    return (
        f'<div class="scroll"><table><caption>{esc(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded_table(table: Sequence[Row], caption: str, most_rows: int = 8) -> str:
    """`html_table` under a summary to click; open from the start when it is short."""
    if not table:
        return ""
    state = " open" if len(table) <= most_rows else ""
    return (
        f"<details{state}><summary>Table: {len(table)} {'row' if len(table) == 1 else 'rows'}</summary>"
        f"{html_table(table, caption)}</details>"
    )


def text_table(table: Sequence[Row]) -> str:
    """The same table for a terminal: aligned columns, or "" without rows."""
    if not table:
        return ""
    names = columns(table)
    numeric = [_numeric([row.get(name) for row in table]) for name in names]
    cells = [names, *([_shown(row, name) for name in names] for row in table)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cells(row: Row, names: Sequence[str], numeric: set[str], links: Mapping[str, str]) -> str:
    name = _shown(row, names[0])
    linked = f'<a href="{esc(links[name])}">{esc(name)}</a>' if name in links else esc(name)
    first = f'<th scope="row"{_align(names[0] in numeric, name)}>{linked}</th>'
    rest = (f"<td{_align(n in numeric, _shown(row, n))}>{esc(_shown(row, n))}</td>" for n in names[1:])
    return first + "".join(rest)


def _shown(row: Row, name: str) -> str:
    """A cell: a column that a row does not have is blank; one that it has as None was not measured."""
    return format_value(row[name]) if name in row else ""


def _align(numeric: bool, text: str = "") -> str:
    if numeric:
        return ' class="num"'
    return ' class="short"' if 0 < len(text) <= _UNBROKEN_CHARS else ""


def _numeric(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
