"""Run the tests in stages, show a table, and end with one closing line as pytest writes it.

    labs/tools/test.py [unit] [vllm] [notebooks] [browser]     all stages by default

The solution notebooks are a stage of their own because they run with an environment of their own. A stage
that fails does not stop the next one. Exit code 0 only if every stage ran tests and all passed.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
CELL_SECONDS = 900  # of a notebook's cell; on two cores the longest takes one or two minutes
STAGES: dict[str, list[str]] = {
    "unit": ["labs/tests", "-m", "not vllm and not browser"],
    "vllm": ["labs/tests", "-m", "vllm and not browser"],
    "notebooks": [
        *("solutions", "--nbval-lax", "--nbval-current-env"),
        f"--nbval-cell-timeout={CELL_SECONDS}",
    ],
    "browser": ["labs/tests", "-m", "browser"],
}


@dataclass
class Outcome:
    """What a stage's tests came to."""

    stage: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.passed > 0 and self.failed == 0 and not self.note


def read(stage: str, report: Path, seconds: float, code: int) -> Outcome:
    """The counts from pytest's JUnit file; a note if there is none or if pytest failed otherwise."""
    outcome = Outcome(stage, seconds=seconds)
    if not report.exists():
        outcome.note = f"pytest ended with exit code {code} and no report"
        return outcome
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed += 1
            outcome.failures.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    if code == 5:
        outcome.note = "no tests found"
    elif code not in (0, 1):
        outcome.note = f"pytest ended with exit code {code}"
    return outcome


def run(stage: str) -> Outcome:
    """One stage, its output shown as it comes."""
    environment = dict(os.environ)
    began = time.monotonic()
    if stage == "browser":
        found = subprocess.run([sys.executable, "labs/tools/chromium.py"], stdout=subprocess.PIPE, text=True)
        if found.returncode != 0:
            return Outcome(stage, seconds=time.monotonic() - began, note="no Chromium, see the line above")
        environment["CHROMIUM"] = found.stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", *STAGES[stage], f"--junitxml={report}"]
        code = subprocess.run(command, env=environment).returncode
        return read(stage, report, time.monotonic() - began, code)


def table(outcomes: list[Outcome]) -> str:
    """One line a stage."""
    lines = [f"{'stage':<10} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}"]
    for o in outcomes:
        lines.append(
            f"{o.stage:<10} {o.passed:>7} {o.failed:>7} {o.skipped:>8} {o.seconds:>8.0f}  {o.note}".rstrip()
        )
    return "\n".join(lines)


def closing(outcomes: list[Outcome]) -> str:
    """`==== 1 failed, 200 passed, 3 skipped in 512.34s ====`"""
    counts = {
        "failed": sum(o.failed for o in outcomes),
        "passed": sum(o.passed for o in outcomes),
        "skipped": sum(o.skipped for o in outcomes),
        "errors": sum(1 for o in outcomes if not o.ok and not o.failed),
    }
    text = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no tests ran"
    return f" {text} in {sum(o.seconds for o in outcomes):.2f}s ".center(80, "=")


def main() -> int:
    stages = sys.argv[1:] or list(STAGES)
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        print(f"test: no stage {unknown[0]!r}; there are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    outcomes = []
    for stage in stages:
        print(f"\n--- {stage} ---", flush=True)
        outcomes.append(run(stage))
    print(f"\n{table(outcomes)}")
    for outcome in outcomes:
        for failure in outcome.failures:
            print(f"FAILED {failure}")
    print(closing(outcomes), flush=True)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
