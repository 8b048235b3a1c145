r"""Building both copies of a notebook from one source, the same bytes every time.

    weeks/weekN/NN_name.py  ->  notebooks/weekN/NN_name.ipynb  (what a learner opens: unsolved, no outputs)
                                solutions/weekN/NN_name.ipynb  (solved, no outputs)

The source is percent format: `# %% [markdown]` or `# %%`, then settings, then the cell. Settings are
`key=value` with JSON values, or one JSON object:

    # %% [markdown]
    # # Scaling benchmark
    # Markdown lines start with `# `.

    # %% tags=["parameters"]
    PROFILE = "auto"
    MODEL = None
    TP = None

    # %%
    from labs import course

    lab = course.open("week5/03_scaling_benchmark", profile=PROFILE, model=MODEL, tp=TP)

    # %% grade_id="W5.N3.P1" points=1 solution=true
    ### BEGIN SOLUTION
    speedup = 0.8
    because = "The all-reduces cost more than the half matrix saves."
    ### END SOLUTION
    lab.predict("W5.N3.P1", speedup, unit="x", because=because)

    # %% {"grade_id": "W5.N3.C1", "points": 2, "solution": true}
    def shard_rows(rows, ranks, rank):
        "Rows [start, stop) of this rank."
        ### BEGIN SOLUTION
        return rows * rank // ranks, rows * (rank + 1) // ranks
        ### END SOLUTION

    # %%
    lab.check("W5.N3.C1", shard_rows)

    # %% grade_id="W5.N3.E1" solution=true
    ### BEGIN SOLUTION
    # STUB: answer = ""  # two sentences
    answer = "…"
    ### END SOLUTION
    lab.explain("W5.N3.E1", answer)

Settings: `tags`, `grade_id`, `points`, `solution`, `timeout` (seconds this cell may take in run_week).
The last letter of an id says what it is: P a prediction (`lab.predict`), C checked code and Q a checked
number or choice (`lab.check`), E an explanation (`lab.explain`). C and Q need points. A check may stand in
the answer's cell or in one of its own; it gets its metadata by itself.

What a learner's copy has in place of the lines from `### BEGIN SOLUTION` to `### END SOLUTION` (the first
rule that applies):

1. the region's `# STUB: text` lines, each without the `# STUB: `, at the marker's indentation;
2. inside a function (the marker is indented): `raise NotImplementedError("W5.N3.C1")`;
3. at the top level, where only assignments may stand: `name = ""` for each string, else `name = None`.

None, "" and NotImplementedError all read as "not attempted". The solved copy keeps the markers and drops
the `# STUB:` lines. Cell ids come from the grade_id (`W5-N3-C1`), or else from a hash of kind and text.
`labs/course/rules.py` says what is refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labs.core import atomic
from labs.core.errors import UserError
from labs.core.paths import ROOT, runs_dir
from labs.course import checks, notebook, rules, source
from labs.course.source import Cell


@dataclass(frozen=True)
class Exercise:
    """One graded cell of a notebook."""

    id: str  # "W5.N3.C1"
    points: float

    @property
    def kind(self) -> str:
        """P, C, Q or E."""
        return self.id.split(".")[-1][0]


def stems(weeks: Sequence[str] | None = None, root: Path = ROOT) -> list[str]:
    """The stems of all sources ("week5/03_scaling_benchmark"), of the named weeks or of all; sorted."""
    folders = sorted(path for path in (root / "weeks").glob("week*") if path.is_dir())
    names = [folder.name for folder in folders]
    for week in weeks or ():
        if week not in names:
            raise UserError(f"unknown week {week!r}; weeks/ has {', '.join(names) or 'none'}")
    return [
        f"{folder.name}/{path.stem}"
        for folder in folders
        if weeks is None or folder.name in weeks
        for path in sorted(folder.glob("[0-9]*.py"))
    ]


def exercises(stem: str, root: Path = ROOT) -> list[Exercise]:
    """The graded cells of a notebook in order, with their points. UserError if there is no such source."""
    return [Exercise(cell.grade_id, cell.points) for cell in _read(stem, root) if cell.grade_id]


def title(stem: str, root: Path = ROOT) -> str:
    """The notebook's first heading, or its stem."""
    cells = (cell.text for cell in _read(stem, root) if cell.kind == "markdown")
    lines = (line for text in cells for line in text.splitlines())
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), stem)


def build(weeks: Sequence[str] | None = None, check: bool = False, root: Path = ROOT) -> list[str]:
    """Write both copies of every source; the paths (relative to `root`) whose content was not as built.

    With `check` nothing is written and the list is the drift. UserError lists every fault of every source,
    one a line; then nothing is written. A learner's copy with outputs or edits is kept in runs/replaced/.
    """
    texts: dict[Path, str] = {}
    found: list[str] = []
    for stem in stems(weeks, root):
        cells = _read(stem, root)
        faults = rules.faults(cells, stem, _name(stem))
        found += faults
        if not faults:
            texts[root / "notebooks" / f"{stem}.ipynb"] = notebook.render(cells, stem, solved=False)
            texts[root / "solutions" / f"{stem}.ipynb"] = notebook.render(cells, stem, solved=True)
    if found:
        raise UserError("\n".join(found))
    changed = [path for path, text in texts.items() if _content(path) != text]
    if not check:
        for path in changed:
            _keep(path, root)
            atomic.write_text(path, texts[path])
    return [str(path.relative_to(root)) for path in changed] + _orphans(weeks, root)


def _name(stem: str) -> str:
    return f"weeks/{stem}.py"


def _read(stem: str, root: Path) -> list[Cell]:
    return source.read(root / "weeks" / f"{stem}.py", _name(stem))


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _keep(path: Path, root: Path) -> None:
    """Copy a notebook that holds somebody's work to runs/replaced/ before it is overwritten."""
    text = _content(path)
    if text is None or _untouched(text):
        return
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    kept = runs_dir() / "replaced" / path.parent.name / f"{path.stem}-{stamp}.ipynb"
    atomic.write_text(kept, text)
    print(f"{path.relative_to(root)} held edits or outputs; that copy is kept at {kept}")


def _untouched(text: str) -> bool:
    try:
        document = json.loads(text)
        outputs = any(cell.get("outputs") for cell in document["cells"])
        return not outputs and document["metadata"]["labs"]["sha256"] == notebook.fingerprint(document)
    except (ValueError, KeyError, TypeError):
        return False


def _orphans(weeks: Sequence[str] | None, root: Path) -> list[str]:
    """Built copies whose source is gone; they are named, never deleted."""
    known = set(stems(None, root))
    lost = []
    for folder in ("notebooks", "solutions"):
        for path in sorted((root / folder).glob("week*/[0-9]*.ipynb")):
            stem = f"{path.parent.name}/{path.stem}"
            if stem not in known and (weeks is None or path.parent.name in weeks):
                lost.append(f"{path.relative_to(root)} (no source {_name(stem)})")
    return lost


def audit(stem: str, root: Path = ROOT) -> list[str]:
    """Where the points of a notebook's cells and those of its registered checks differ, one line each."""
    wanted = {exercise.id: exercise.points for exercise in exercises(stem, root) if exercise.kind in "CQ"}
    known = {name: check.points for name, check in checks.load(stem).items()}
    module = checks.module_name(stem)
    found = [
        f"{_name(stem)}: {name} has no entry in CHECKS of {module}"
        for name in sorted(set(wanted) - set(known))
    ]
    found += [f"{module}: {name} has no cell in {_name(stem)}" for name in sorted(set(known) - set(wanted))]
    return found + [
        f"{_name(stem)}: {name} has {wanted[name]:g} points, its Check {known[name]:g}"
        for name in sorted(set(wanted) & set(known))
        if wanted[name] != known[name]
    ]


def main(check: bool = False) -> int:
    """What `python -m labs notebooks [--check]` does: build or compare, and say what differs (then 1)."""
    changed = build(check=check)
    faults = [fault for stem in stems() for fault in audit(stem)]
    for line in changed:
        print(f"differs from its source: {line}" if check else f"wrote {line}")
    for line in faults:
        print(line)
    if not changed and not faults:
        print(f"{len(stems())} notebooks, both copies as their sources say")
    elif check and changed:
        print("run `make notebooks` and commit the result")
    return 1 if faults or (check and changed) else 0
