"""`python -m labs doctor`: what this machine has, and what that means for the course.

It reads metadata, /proc and NVML. It imports neither torch nor vLLM, touches no GPU and connects nowhere.
"""

import json as json_format
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence

from labs.cluster import doctor_gpu, doctor_machine, doctor_software
from labs.cluster.finding import Finding

__all__ = ["Finding", "diagnose", "main", "render", "to_json"]


def diagnose() -> list[Finding]:
    """Every finding, in the order in which a reader wants them."""
    return [*doctor_machine.findings(), *doctor_gpu.findings(), *doctor_software.findings()]


def render(findings: Sequence[Finding], width: int | None = None) -> str:
    """A text table: status, name, what was found, and below it what it means."""
    width = max(60, width or min(shutil.get_terminal_size().columns, 120))
    name_width = max(len(one.name) for one in findings)
    indent = " " * (len("absent") + name_width + 4)
    lines = []
    for one in findings:
        head = f"{one.status:<6}  {one.name:<{name_width}}  "
        lines += textwrap.wrap(one.found, width, initial_indent=head, subsequent_indent=indent)
        lines += textwrap.wrap(one.meaning, width, initial_indent=indent, subsequent_indent=indent)
    return "\n".join([*lines, "", summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """ "17 ok, 1 warn, 0 fail, 4 absent"."""
    count = Counter(one.status for one in findings)
    return ", ".join(f"{count[status]} {status}" for status in ("ok", "warn", "fail", "absent"))


def to_json(findings: Sequence[Finding]) -> str:
    """The findings as a JSON list of objects with name, status, found and meaning."""
    return json_format.dumps([one.model_dump() for one in findings], indent=1, ensure_ascii=False)


def main(json: bool = False) -> int:
    """Print the findings. Exit code 1 if one of them stops the course from running, else 0."""
    found = diagnose()
    print(to_json(found) if json else render(found), file=sys.stdout, flush=True)
    return 1 if any(one.status == "fail" for one in found) else 0
