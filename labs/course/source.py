"""Reading a notebook's source (weeks/weekN/NN_name.py, percent format), and a solution cell's two texts.

`labs/course/build.py` documents the format. Everything here is a pure function of the file's text.
"""

import ast
import json
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labs.core.errors import UserError

BEGIN, END, STUB = "### BEGIN SOLUTION", "### END SOLUTION", "# STUB:"
OPTIONS: dict[str, tuple[type, ...]] = {
    "tags": (list,),
    "grade_id": (str,),
    "points": (int, float),
    "solution": (bool,),
    "timeout": (int, float),
}
_HEADER = re.compile(r"^# %%(?:\s+\[(markdown|md)\])?(?:\s+(.*))?$")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")


@dataclass(frozen=True)
class Cell:
    """One cell of the source: its text as written, solution and stub included."""

    kind: str  # "markdown" or "code"
    text: str
    number: int  # 1, 2, … in the file
    line: int  # of its header in the file
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def grade_id(self) -> str | None:
        return self.options.get("grade_id")

    @property
    def points(self) -> float:
        return self.options.get("points", 0)

    @property
    def solution(self) -> bool:
        return bool(self.options.get("solution", False))

    @property
    def tags(self) -> list[str]:
        return self.options.get("tags", [])

    def where(self, name: str) -> str:
        """`weeks/week5/03_x.py:41: cell 7 (W5.N3.C1)`, the start of every message about this cell."""
        label = f" ({self.grade_id})" if self.grade_id else ""
        return f"{name}:{self.line}: cell {self.number}{label}"


def parse(text: str, name: str = "source") -> list[Cell]:
    """The cells of a percent-format text. Comments before the first `# %%` do not count as a cell.

    Raises UserError naming file and line for a header or a markdown line that cannot be read.
    """
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("# %%")]
    before = lines[: starts[0]] if starts else lines
    if any(line.strip() and not line.startswith("#") for line in before):
        raise UserError(f"{name}:1: only comments may stand before the first `# %%` cell")
    cells = []
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True), 1):
        where = f"{name}:{start + 1}: cell {number}"
        match = _HEADER.match(lines[start])
        if not match:
            raise UserError(f"{where}: cannot read the header {lines[start]!r}")
        kind = "markdown" if match[1] else "code"
        options = _options(match[2] or "", where)
        body = _trim(lines[start + 1 : stop])
        if kind == "markdown":
            body = [_uncomment(line, where) for line in body]
        cells.append(Cell(kind, "\n".join(_trim(body)), number, start + 1, options))
    return cells


def read(path: Path, name: str) -> list[Cell]:
    """Parse a file; UserError if it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), name)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8: {error}") from None


def solved(cell: Cell) -> str:
    """The cell as the solved copy has it: solution and markers kept, `# STUB:` lines dropped."""
    return "\n".join(line for line in cell.text.splitlines() if not line.strip().startswith(STUB))


def stripped(cell: Cell) -> str:
    """The cell as a learner gets it: each region replaced by its stub (rule in build.py).

    Raises ValueError (one line, without the place) for unbalanced markers or a region that needs a stub line.
    """
    out: list[str] = []
    region: list[str] | None = None
    indent = ""
    for line in cell.text.splitlines():
        word = line.strip()
        if word == BEGIN:
            if region is not None:
                raise ValueError(f"`{BEGIN}` inside a solution")
            region, indent = [], line[: len(line) - len(line.lstrip())]
        elif word == END:
            if region is None:
                raise ValueError(f"`{END}` without `{BEGIN}`")
            out += [indent + text if text else "" for text in _stub(region, indent, cell.grade_id or "")]
            region = None
        else:
            (out if region is None else region).append(line)
    if region is not None:
        raise ValueError(f"`{BEGIN}` without `{END}`")
    return "\n".join(out)


def regions(cell: Cell) -> int:
    """How many solution markers the cell holds, opening or closing."""
    return sum(line.strip() in (BEGIN, END) for line in cell.text.splitlines())


def _stub(region: list[str], indent: str, grade_id: str) -> list[str]:
    given = [line.strip()[len(STUB) :].removeprefix(" ") for line in region if line.strip().startswith(STUB)]
    if given:
        return given
    if indent:
        return [f'raise NotImplementedError("{grade_id}")']
    try:
        statements = ast.parse(textwrap.dedent("\n".join(region))).body
    except SyntaxError as error:
        raise ValueError(f"the solution is not Python by itself ({error.msg}); add a `{STUB}` line") from None
    if not statements:
        raise ValueError("the solution is empty")
    return [_assignment(statement) for statement in statements]


def _assignment(statement: ast.stmt) -> str:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    if isinstance(statement, ast.AnnAssign):
        target = statement.target
    if not isinstance(target, ast.Name):
        raise ValueError(
            f"a solution outside a function must be assignments `name = …`, or have a `{STUB}` line"
        )
    value = getattr(statement, "value", None)
    text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return f'{target.id} = ""' if text else f"{target.id} = None"


def _options(text: str, where: str) -> dict[str, Any]:
    text = text.strip()
    decoder = json.JSONDecoder()
    found: dict[str, Any] = {}
    try:
        if text.startswith("{"):
            found = json.loads(text)
        else:
            position = 0
            while position < len(text):
                match = _KEY.match(text, position)
                if not match:
                    raise ValueError(f"expected key=value at {text[position:]!r}")
                found[match[1]], position = decoder.raw_decode(text, match.end())
    except ValueError as error:
        raise UserError(f"{where}: cannot read the header's settings ({error}); values are JSON") from None
    for key, value in found.items():
        wanted = OPTIONS.get(key)
        if wanted is None:
            raise UserError(f"{where}: unknown setting {key!r}; known: {', '.join(OPTIONS)}")
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise UserError(f"{where}: {key} has the wrong type, found {value!r}")
    return found


def _uncomment(line: str, where: str) -> str:
    if not line.startswith("#") and line.strip():
        raise UserError(f"{where}: a markdown line must start with `# `, found {line!r}")
    return line[1:].removeprefix(" ").rstrip()


def _trim(lines: list[str]) -> list[str]:
    start, stop = 0, len(lines)
    while start < stop and not lines[start].strip():
        start += 1
    while stop > start and not lines[stop - 1].strip():
        stop -= 1
    return [line.rstrip() for line in lines[start:stop]]
