"""The .ipynb text of a parsed source (nbformat 4.5) with nbgrader-style metadata. Pure and deterministic."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from labs.course import rules, source
from labs.course.source import Cell

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def render(cells: Sequence[Cell], stem: str, solved: bool) -> str:
    """The text of one copy's .ipynb (nbformat 4.5), ending in a newline."""
    taken: set[str] = set()
    pairs = [(cell, _nbgrader(cell, cells)) for cell in cells]
    document = {
        "cells": [_cell(cell, grader, solved, taken) for cell, grader in pairs],
        "metadata": {
            "kernelspec": KERNEL,
            "labs": {"source": f"weeks/{stem}.py", "copy": "solution" if solved else "student"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    document["metadata"]["labs"]["sha256"] = fingerprint(document)  # type: ignore[index]
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def fingerprint(document: dict[str, Any]) -> str:
    """sha256 over kinds and texts: tells a copy as built from one that somebody edited."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in document["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _cell(cell: Cell, grader: dict[str, Any] | None, solved: bool, taken: set[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if cell.tags:
        metadata["tags"] = cell.tags
    if "timeout" in cell.options:
        metadata["labs"] = {"timeout": cell.options["timeout"]}
    if grader:
        metadata |= {"nbgrader": grader, "deletable": False}
    text = cell.text if cell.kind == "markdown" else source.solved(cell) if solved else source.stripped(cell)
    made = {
        "cell_type": cell.kind,
        "id": _cell_id(cell, grader, taken),
        "metadata": metadata,
        "source": text.splitlines(keepends=True),
    }
    return made if cell.kind == "markdown" else made | {"execution_count": None, "outputs": []}


def _cell_id(cell: Cell, grader: dict[str, Any] | None, taken: set[str]) -> str:
    digest = hashlib.sha256(f"{cell.kind}\n{cell.text}".encode()).hexdigest()[:12]
    wanted = grader["grade_id"].replace(".", "-") if grader else digest
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    taken.add(name)
    return name


def _nbgrader(cell: Cell, cells: Sequence[Cell]) -> dict[str, Any] | None:
    """nbgrader's cell metadata, schema 3; points stand on the cell that is graded."""
    checks = checked(cell)
    if not cell.grade_id:
        if not checks:
            return None
        points = sum(other.points for other in cells if other.grade_id in checks)
        name = f"{checks[0]}.check"
        return _schema(name, grade=True, solution=False, locked=True) | {"points": points}
    autograded = cell.grade_id.split(".")[-1][0] in "CQ"
    if autograded and cell.grade_id not in checks:  # graded in the cell that checks it
        return _schema(cell.grade_id, grade=False, solution=True, locked=False)
    return _schema(cell.grade_id, grade=True, solution=True, locked=False) | {"points": cell.points}


def _schema(grade_id: str, grade: bool, solution: bool, locked: bool) -> dict[str, Any]:
    flags = {"grade": grade, "solution": solution, "locked": locked, "task": False}
    return {"schema_version": 3, "cell_type": "code", "grade_id": grade_id, **flags}


def checked(cell: Cell) -> list[str]:
    """The ids that a code cell gives to lab.check."""
    found = [rules.first_argument(call) or "" for method, call in rules.calls(cell) if method == "check"]
    return [name for name in found if name]
