"""What a notebook's exercise cells hand to `lab.check`, for the tests of its checks."""

import ast
from collections.abc import Container
from typing import Any

from labs.course import build, source


class Recorder:
    """Stands for the lab in a cell: keeps what the cell hands to it."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def check(self, name: str, answer: Any) -> None:
        self.answers[name] = answer


def answers(stem: str, known: Container[str], solved: bool) -> dict[str, Any]:
    """What every exercise cell of `known` hands to lab.check, in the solved or the learner's copy."""
    lab = Recorder()
    for cell in source.read(build.ROOT / "weeks" / f"{stem}.py", stem):
        if cell.grade_id in known:
            text = source.solved(cell) if solved else source.stripped(cell)
            exec(compile(ast.parse(text), str(cell.grade_id), "exec"), {"lab": lab})
    return lab.answers
