"""A module run to its end under guard: its lines are passed on, its failure is named, nothing is left."""

import textwrap

import pytest

from labs.cluster.processes import leftovers
from labs.core.errors import RunFailed
from labs.serving.child import run_module


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Writes a module that the child can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code):
        (tmp_path / "some_child.py").write_text(textwrap.dedent(code))
        return "some_child"

    return write


def test_lines_are_passed_on_in_order_also_the_unfinished_read(script):
    name = script("""
        import sys, time
        sys.stdout.write("one\\ntw"); sys.stdout.flush(); time.sleep(0.1); print("o", *sys.argv[1:])
    """)
    lines: list[str] = []
    run_module(name, ["a", "b"], what="child", timeout_s=30, say=lines.append)
    assert lines == ["one", "two a b"]


def test_a_failure_names_the_exception_and_not_what_is_printed_after_it(script):
    name = script("""
        import atexit, sys
        atexit.register(lambda: print("see https://example.org/leaks", file=sys.stderr))
        raise ValueError("no such thing")
    """)
    with pytest.raises(RunFailed, match=r"^the child failed: ValueError: no such thing$") as caught:
        run_module(name, [], what="child", timeout_s=30)
    assert "Traceback" in caught.value.details


def test_a_failure_without_a_traceback_gives_the_last_line_or_the_code(script):
    with pytest.raises(RunFailed, match="the child failed: bad luck"):
        run_module(script("import sys; sys.exit('bad luck')"), [], what="child", timeout_s=30)
    with pytest.raises(RunFailed, match="the child failed: exit code 3"):
        run_module(script("import os; os._exit(3)"), [], what="child", timeout_s=30)
    with pytest.raises(RunFailed, match="the child was killed by SIGKILL"):
        run_module(script("import os; os.kill(os.getpid(), 9)"), [], what="child", timeout_s=30)


@pytest.mark.parametrize("code", [
    "import time; time.sleep(60)",
    "import os, time; os.close(1); time.sleep(60)",
])  # fmt: skip
def test_a_child_that_hangs_is_ended(script, code):
    with pytest.raises(RunFailed, match="the child did not finish within 1 s"):
        run_module(script(code), [], what="child", timeout_s=1)
    assert leftovers() == []
