"""What a notebook's source must keep to: ids, parameters, size, markers, and nothing that belongs in labs/.

`faults` returns one line a fault, each naming file, line and cell; no line means a sound source.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from labs.course.source import BEGIN, Cell, regions, solved, stripped

MAX_CELLS, MAX_CODE_LINES = 30, 150
KINDS = {"P": "predict", "C": "check", "Q": "check", "E": "explain"}  # letter of the id -> method of Lab
FORBIDDEN = ("subprocess", "multiprocessing", "plotly", "matplotlib", "seaborn", "altair", "bokeh", "pylab")
_STEM = re.compile(r"^week(\d+)/(\d+)_[a-z0-9_]+$")


def prefix(stem: str) -> str:
    """`week5/03_scaling_benchmark` -> `W5.N3`. ValueError if the stem is not weekN/NN_name."""
    match = _STEM.match(stem)
    if not match:
        raise ValueError(f"{stem}: a notebook source is named weekN/NN_name.py in lower case")
    return f"W{int(match[1])}.N{int(match[2])}"


def faults(cells: Sequence[Cell], stem: str, name: str) -> list[str]:
    """Every fault of a source, as `file:line: cell N (id): what is wrong and what to do`."""
    try:
        start = prefix(stem)
    except ValueError as error:
        return [f"{name}: {error}"]
    found = [*_whole(cells, name), *_ids(cells, start, name)]
    for cell in cells:
        where = cell.where(name)
        found += [f"{where}: {fault}" for fault in (*_markers(cell), *_code(cell))]
    return found or list(_calls(cells, stem, name))


def code_lines(cells: Sequence[Cell]) -> int:
    """Lines of code in the solved copy: neither blank nor only a comment."""
    lines = (line.strip() for cell in cells if cell.kind == "code" for line in solved(cell).splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def calls(cell: Cell, text: str | None = None) -> list[tuple[str, ast.Call]]:
    """(method, call) for every `lab.method(...)` and `course.open(...)` in a code cell."""
    if cell.kind != "code":
        return []
    found = []
    for node in ast.walk(ast.parse(solved(cell) if text is None else text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in ("lab", "course"):
                found.append((node.func.attr, node))
    return found


def first_argument(call: ast.Call) -> str | None:
    """The call's first argument if it is a string written out, else None."""
    argument = call.args[0] if call.args else None
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def _whole(cells: Sequence[Cell], name: str) -> Iterator[str]:
    if len(cells) > MAX_CELLS:
        yield f"{name}: {len(cells)} cells, at most {MAX_CELLS}; join or drop some"
    if (lines := code_lines(cells)) > MAX_CODE_LINES:
        yield f"{name}: {lines} lines of code, at most {MAX_CODE_LINES}; move logic to labs/"
    parameters = [cell for cell in cells if "parameters" in cell.tags]
    if len(parameters) != 1:
        yield f'{name}: {len(parameters)} cells have tags=["parameters"], exactly one must'
    for cell in parameters:
        if not _literals(cell):
            yield f"{cell.where(name)}: the parameters cell may hold only `NAME = literal` lines"


def _literals(cell: Cell) -> bool:
    try:
        for statement in ast.parse(cell.text).body:
            if not isinstance(statement, ast.Assign):
                return False
            ast.literal_eval(statement.value)
    except (SyntaxError, ValueError):
        return False
    return cell.kind == "code"


def _ids(cells: Sequence[Cell], start: str, name: str) -> Iterator[str]:
    form = re.compile(rf"^{re.escape(start)}\.[{''.join(KINDS)}]\d+$")
    count = Counter(cell.grade_id for cell in cells if cell.grade_id)
    for cell in cells:
        where = cell.where(name)
        if cell.grade_id is None:
            if cell.solution or "points" in cell.options:
                yield f"{where}: a cell with solution or points needs a grade_id such as {start}.C1"
            continue
        if not form.match(cell.grade_id):
            yield f"{where}: the id does not match this notebook; use {start}.P1, .C1, .Q1 or .E1"
        elif count[cell.grade_id] > 1:
            yield f"{where}: duplicate id {cell.grade_id}"
        if not cell.solution or cell.kind != "code":
            yield f"{where}: a cell with a grade_id must be a code cell with solution=true"
        if cell.grade_id.split(".")[-1][:1] in "CQ" and cell.points <= 0:
            yield f"{where}: a checked exercise needs points=1 or more"


def _markers(cell: Cell) -> Iterator[str]:
    marks = regions(cell)
    if cell.solution and not marks:
        yield f"a solution cell without `{BEGIN}`"
    if marks and not cell.solution:
        yield "solution markers in a cell without solution=true"
    if cell.kind == "code":
        try:
            ast.parse(stripped(cell))
        except ValueError as error:
            yield str(error)
        except SyntaxError as error:
            yield f"the stripped cell is not Python: {error.msg}, line {error.lineno} of the cell"
        else:
            if any(_stops(node) for node in ast.parse(stripped(cell)).body):
                yield "the stub raises outside a function, so a run would stop here; add a `# STUB:` line"


def _stops(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(isinstance(node, ast.Raise) for node in ast.walk(statement))


def _code(cell: Cell) -> Iterator[str]:
    if cell.kind != "code":
        return
    if any(line.lstrip().startswith(("!", "%")) for line in cell.text.splitlines()):
        yield "a shell command or magic in a cell; put it into labs/"
        return
    try:
        tree = ast.parse(solved(cell))
    except SyntaxError as error:
        yield f"not Python: {error.msg}, line {error.lineno} of the cell"
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for module in names:
            if module.split(".")[0] in FORBIDDEN:
                yield f"imports {module}: plotting and processes belong in labs/"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.system", "os.popen"):
            yield f"calls {ast.unparse(node)}: processes belong in labs/"


def _calls(cells: Sequence[Cell], stem: str, name: str) -> Iterator[str]:
    ids = {cell.grade_id for cell in cells if cell.grade_id}
    used: Counter[str] = Counter()
    opened: list[str | None] = []
    for cell in cells:
        where = cell.where(name)
        for method, call in calls(cell):
            given = first_argument(call)
            if method == "open":
                opened.append(given)
            if method in KINDS.values():
                wanted = [letter for letter, owner in KINDS.items() if owner == method]
                if given not in ids:
                    yield f"{where}: lab.{method}({given!r}): no cell has this grade_id"
                elif given.split(".")[-1][0] not in wanted:
                    yield f"{where}: lab.{method}({given!r}): {method} is for ids .{' and .'.join(wanted)}"
                else:
                    used[given] += 1
            for keyword in call.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg == "after" and value is not None and value not in ids:
                    yield f"{where}: after={value!r}: no cell has this grade_id"
    if opened != [stem]:
        yield f'{name}: needs exactly one course.open("{stem}", …); found {opened}'
    for grade_id in sorted(ids):
        if used[grade_id] != 1:
            method = KINDS[grade_id.split(".")[-1][0]]
            yield f'{name}: needs exactly one lab.{method}("{grade_id}", …); found {used[grade_id]}'
