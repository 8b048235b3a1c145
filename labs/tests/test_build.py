"""The builder: the format it reads, what it strips and refuses, and that it builds the same bytes again."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from labs.core.errors import UserError
from labs.course import build, notebook, rules, source

DATA = Path(__file__).parent / "data"
HEAD = (
    '# %% tags=["parameters"]\nPROFILE = "auto"\n# %%\nlab = course.open("week9/01_toy", profile=PROFILE)\n'
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(DATA / "weeks", tmp_path / "weeks")
    monkeypatch.setenv("LABS_RUNS", str(tmp_path / "runs"))
    return tmp_path


def texts(path: Path) -> dict[str, str]:
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    return {cell["id"]: cell["source"] for cell in document.cells}


def cell(text: str, **options: object) -> source.Cell:
    return source.Cell("code", text, 1, 1, {"grade_id": "W9.N1.C1", "solution": True, **options})


def test_both_copies(root: Path) -> None:
    build.build(root=root)
    student = texts(root / "notebooks/week9/01_toy.ipynb")
    solved = texts(root / "solutions/week9/01_toy.ipynb")
    assert list(student) == list(solved)
    assert student["W9-N1-C1"].endswith('    raise NotImplementedError("W9.N1.C1")')
    assert "rows * rank // ranks" not in student["W9-N1-C1"]
    assert "rows * rank // ranks" in solved["W9-N1-C1"]
    assert student["W9-N1-P1"].startswith('seconds = None\nbecause = ""\nlab.predict(')
    assert student["W9-N1-Q2"].startswith('choice = None  # "a" or "b"\n')
    assert "STUB" not in "".join(solved.values())
    assert "SOLUTION" not in "".join(student.values())


def test_metadata(root: Path) -> None:
    build.build(root=root)
    document = json.loads((root / "notebooks/week9/01_toy.ipynb").read_text())
    meta = {cell["id"]: cell["metadata"] for cell in document["cells"]}
    answer, check = meta["W9-N1-C1"]["nbgrader"], meta["W9-N1-C1-check"]["nbgrader"]
    assert (answer["grade"], answer["solution"], "points" in answer) == (False, True, False)
    assert (check["grade"], check["locked"], check["points"]) == (True, True, 2)
    assert meta["W9-N1-Q1"]["nbgrader"]["points"] == 1
    assert all(m["nbgrader"]["schema_version"] == 3 for m in meta.values() if "nbgrader" in m)
    assert any(m.get("tags") == ["parameters"] for m in meta.values())
    assert any(m.get("labs") == {"timeout": 30} for m in meta.values())
    assert all(cell["outputs"] == [] for cell in document["cells"] if cell["cell_type"] == "code")
    assert [(e.id, e.kind, e.points) for e in build.exercises("week9/01_toy", root)][:2] == [
        ("W9.N1.P1", "P", 1),
        ("W9.N1.C1", "C", 2),
    ]


def test_same_bytes_and_drift(root: Path) -> None:
    both = ["notebooks/week9/01_toy.ipynb", "solutions/week9/01_toy.ipynb"]
    assert build.build(check=True, root=root) == both
    assert not (root / "notebooks").exists()
    assert build.build(root=root) == both
    before = [(root / path).read_bytes() for path in both]
    assert build.build(check=True, root=root) == []
    (root / both[1]).unlink()
    assert build.build(root=root) == [both[1]]
    assert [(root / path).read_bytes() for path in both] == before


def test_work_of_a_learner_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.build(root=root)
    path = root / "notebooks/week9/01_toy.ipynb"
    text = path.read_text().replace("seconds = None", "seconds = 3")
    path.write_text(text)
    build.build(root=root)
    kept = list((root / "runs/replaced/week9").glob("*.ipynb"))
    assert len(kept) == 1
    assert kept[0].read_text() == text
    assert "seconds = None" in path.read_text()
    assert str(kept[0]) in capsys.readouterr().out


def test_a_source_that_changed_replaces_an_untouched_copy_silently(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build.build(root=root)
    path = root / "weeks/week9/01_toy.py"
    path.write_text(path.read_text().replace("How long is a sum?", "How long?"))
    assert len(build.build(root=root)) == 2
    assert not (root / "runs").exists()
    assert capsys.readouterr().out == ""


def test_a_copy_without_source_is_named(root: Path) -> None:
    build.build(root=root)
    (root / "weeks/week9/01_toy.py").unlink()
    found = build.build(check=True, root=root)
    assert found[0] == "notebooks/week9/01_toy.ipynb (no source weeks/week9/01_toy.py)"


def test_jupytext_reads_the_same_cells() -> None:
    jupytext = pytest.importorskip("jupytext")
    text = (DATA / "weeks/week9/01_toy.py").read_text()
    theirs = jupytext.reads(text, fmt="py:percent").cells
    ours = source.parse(text)
    theirs = theirs[len(theirs) - len(ours) :]  # jupytext makes the leading comments a cell
    assert [(c.cell_type, c.source) for c in theirs] == [(c.kind, c.text) for c in ours]
    assert [c.metadata.get("grade_id") for c in theirs] == [c.grade_id for c in ours]


@pytest.mark.parametrize(
    ("region", "stub"),
    [
        ("x = 1\ny: float = 2\nz = 'text'", 'x = None\ny = None\nz = ""'),
        ("# STUB: x = None  # tokens\nx = f(3)\nprint(x)", "x = None  # tokens"),
    ],
)
def test_top_level_stubs(region: str, stub: str) -> None:
    assert source.stripped(cell(f"### BEGIN SOLUTION\n{region}\n### END SOLUTION")) == stub


@pytest.mark.parametrize("region", ["f(x)", "a, b = 1, 2", "def f():\n    return 1", ""])
def test_top_level_needs_a_stub_line(region: str) -> None:
    with pytest.raises(ValueError, match=r"assignments|empty"):
        source.stripped(cell(f"### BEGIN SOLUTION\n{region}\n### END SOLUTION"))


SOLVED = "### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n"
Q1 = f'# %% grade_id="W9.N1.Q1" points=1 solution=true\n{SOLVED}lab.check("W9.N1.Q1", x)\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + Q1 + Q1, "duplicate id W9.N1.Q1"),
        (HEAD + Q1.replace("W9", "W5"), "cell 3 (W5.N1.Q1): the id does not match this notebook"),
        (HEAD.replace('tags=["parameters"]', ""), '0 cells have tags=["parameters"]'),
        (HEAD.replace('"auto"', "open('x')"), "only `NAME = literal` lines"),
        (HEAD.replace("01_toy", "02_toy"), 'needs exactly one course.open("week9/01_toy"'),
        (HEAD + Q1.replace(SOLVED, "x = 1\n"), "a solution cell without `### BEGIN SOLUTION`"),
        (HEAD + Q1.replace("### END SOLUTION\n", ""), "`### BEGIN SOLUTION` without `### END SOLUTION`"),
        (HEAD + Q1.replace("### BEGIN SOLUTION\n", ""), "`### END SOLUTION` without `### BEGIN SOLUTION`"),
        (HEAD + Q1.replace("solution=true", ""), "solution markers in a cell without solution=true"),
        (HEAD + Q1.replace("points=1", ""), "a checked exercise needs points=1 or more"),
        (HEAD + Q1.replace("lab.check", "print"), 'needs exactly one lab.check("W9.N1.Q1"'),
        (HEAD + '# %%\nlab.check("W9.N1.C7", 1)\n', "no cell has this grade_id"),
        (HEAD + '# %%\nlab.figure("x", after="W9.N1.P9")\n', "no cell has this grade_id"),
        (HEAD + "# %%\n1\n" * 29, "31 cells, at most 30"),
        (HEAD + "# %%\n" + "x = 1\n" * 160, "lines of code, at most 150"),
        (HEAD + "# %%\nimport matplotlib.pyplot as plt\n", "cell 3: imports matplotlib.pyplot"),
        (HEAD + "# %%\nfrom subprocess import run\n", "imports subprocess"),
        (HEAD + "# %%\n!nvidia-smi\n", "a shell command or magic"),
        (HEAD + "# %%\nx = (\n", "not Python"),
        (
            HEAD + "# %%\nif x:\n    ### BEGIN SOLUTION\n    y\n    ### END SOLUTION\n",
            "a run would stop here",
        ),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    found = rules.faults(source.parse(text), "week9/01_toy", "weeks/week9/01_toy.py")
    assert any(message in line for line in found), found
    assert all(line.startswith("weeks/week9/01_toy.py") for line in found)


def test_a_sound_source_has_no_faults() -> None:
    assert rules.faults(source.parse(HEAD + Q1), "week9/01_toy", "x.py") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n# %%\n", "only comments may stand before"),
        ("# %% tags=parameters\n", "cannot read the header's settings"),
        ("# %% colour=1\n", "unknown setting 'colour'"),
        ("# %% points=true\n", "points has the wrong type"),
        ("# %% [markdown]\nhello\n", "a markdown line must start with"),
    ],
)
def test_unreadable_sources(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"src\.py:1") as caught:
        source.parse(text, "src.py")
    assert message in str(caught.value)


def test_nothing_is_written_when_a_source_has_faults(root: Path) -> None:
    (root / "weeks/week9/02_bad.py").write_text("# %%\n1\n")
    with pytest.raises(UserError, match=r"weeks/week9/02_bad.py: 0 cells have tags"):
        build.build(root=root)
    assert not (root / "notebooks").exists()


def test_unknown_week(root: Path) -> None:
    with pytest.raises(UserError, match="unknown week 'week7'; weeks/ has week9"):
        build.build(["week7"], root=root)


def test_equal_cells_get_different_ids() -> None:
    document = json.loads(notebook.render(source.parse("# %%\n1\n# %%\n1\n"), "week9/01_toy", solved=True))
    assert len({cell["id"] for cell in document["cells"]}) == 2
