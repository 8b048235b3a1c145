"""Why a vLLM server died, read from its log.

vLLM's last words are seldom the reason: when a worker fails, the engine core reports that a worker failed,
and the API server reports that the engine core failed. The reason is the last exception of the innermost
process that is not such a report.
"""

import re
from dataclasses import dataclass

_PROCESS = re.compile(r"^\((?P<name>[A-Za-z]\w*) pid=\d+\) ?")
_LEVEL = re.compile(r"^(?P<level>[A-Z]+) \d\d-\d\d \d\d:\d\d:\d\d \[[^]]*\] ?")
_EXCEPTION = re.compile(
    r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt))(?:: (?P<text>.*))?$"
)
_USAGE = re.compile(r"^(?:usage: )?\S*\.py: error: (?P<text>.+)$")
_NOISE = re.compile(
    r"nanobind: | - (leaked|\.\.\.) |See https://nanobind|.*resource_tracker"
    r"|\(APIServer pid=\d+\) INFO .* Route: "
)
_REPORTS = (
    "initialization failed",
    "failed to start",
    "died unexpectedly",
    "EngineDeadError",
    "EngineCore encountered",
    "Executor failed",
    "See root cause above",
    "cancelled",
)
_DEPTH = {"Worker": 2, "EngineCore": 1}  # the deeper process knows better; the API server and others: 0


@dataclass(frozen=True)
class _Line:
    process: str
    level: str  # "" for what did not come through the logger
    text: str


@dataclass(frozen=True)
class _Fault:
    depth: int
    process: str
    text: str


def reason(log: str) -> str | None:
    """One line that says why, or None if the log holds neither an exception nor an error."""
    lines = [_split(line) for line in log.splitlines() if line.strip()]
    found = [fault for at in range(len(lines)) if (fault := _fault(lines, at))]
    if found:
        deepest = [fault for fault in found if fault.depth == max(one.depth for one in found)]
        return _short([fault.text for fault in deepest if fault.process == deepest[0].process][-1])
    died = [line.text.strip() for line in lines if "died unexpectedly" in line.text]
    if died or any("engine core exited unexpectedly" in line.text for line in lines):
        return (
            died[0]
            if died
            else "the engine core ended without an error of its own (killed, or no memory left)"
        )
    errors = [line.text for line in lines if line.level in ("ERROR", "CRITICAL") and line.text.strip()]
    return errors[-1].strip() if errors else None


def tail(log: str, lines: int = 60) -> str:
    """The end of the log, without what libraries say about themselves when a process ends."""
    said = [line for line in log.splitlines() if line.strip() and not _NOISE.match(line)]
    return "\n".join(said[-lines:])


def _short(text: str, limit: int = 300) -> str:
    """Whole sentences up to `limit` characters: some of vLLM's errors go on with advice for pages."""
    end = text.rfind(". ", 0, limit)
    return text if len(text) <= limit or end < 0 else text[: end + 1]


def _split(line: str) -> _Line:
    process = _PROCESS.match(line)
    rest = line[process.end() :] if process else line
    level = _LEVEL.match(rest)
    name = process["name"] if process else ""
    return _Line(name, level["level"] if level else "", rest[level.end() :] if level else rest)


def _fault(lines: list[_Line], at: int) -> _Fault | None:
    """The fault that this line states, or None."""
    line = lines[at]
    if line.level in ("DEBUG", "INFO", "WARNING"):  # vLLM also logs exceptions that do no harm
        return None
    if usage := _USAGE.match(line.text.strip()):
        return _Fault(len(_DEPTH) + 1, "", usage["text"])
    match = _EXCEPTION.match(line.text)
    if not match or any(report in line.text for report in _REPORTS):
        return None
    kind, text = match["type"].rpartition(".")[2], (match["text"] or "").strip()
    if kind in ("SystemExit", "KeyboardInterrupt", "CancelledError"):
        return None
    if "validation error" in text and at + 1 < len(lines):  # pydantic puts what it says on the next lines
        said = [following.text.strip() for following in lines[at + 1 : at + 4]]
        stated = next((one for one in said if one.startswith("Value error, ")), said[0])
        text = re.sub(r" \[type=.*", "", stated.removeprefix("Value error, "))
    depth = _DEPTH.get(line.process.partition("_")[0], 0)
    return _Fault(depth, line.process if depth else "", f"{kind}: {text}" if text else kind)
