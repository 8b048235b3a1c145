"""What a run says while it runs: its last lines in one output, replaced in place; plain lines elsewhere."""

import time
from typing import Any

from labs.report.card import Card
from labs.report.display import in_notebook
from labs.report.markup import esc

SHOWN_LINES = 8
SECONDS_BETWEEN_UPDATES = 0.2


class Progress:
    """One running job. `masked` says why its lines may not be read yet; then they are only counted."""

    def __init__(self, title: str, masked: str = "") -> None:
        self.title, self.masked = title, masked
        self.lines: list[str] = []
        self._began = self._updated = time.monotonic()
        self._handle: Any = None
        if in_notebook():
            from IPython.display import display

            self._handle = display(self.card(), display_id=True)

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.monotonic() - self._began

    def say(self, line: str) -> None:
        """One line of progress."""
        self.lines.append(line)
        if self._handle is None:
            if not self.masked:
                print(line, flush=True)
        elif time.monotonic() - self._updated >= SECONDS_BETWEEN_UPDATES:
            self._updated = time.monotonic()
            self._handle.update(self.card())

    def end(self, word: str) -> None:
        """The last state: `done`, `failed` or `interrupted`, with all lines folded."""
        if self._handle is None:
            print(f"{self.title}: {word} after {self.seconds:.1f} s", flush=True)
        else:
            self._handle.update(self.card(word))

    def card(self, word: str = "") -> Card:
        """The job as it stands; `word` says how it ended."""
        head = f"{self.title}: {word or 'running'}, {self.seconds:.1f} s"
        lines = [f"{len(self.lines)} lines, shown after {self.masked}"] if self.masked else self.lines
        if word:
            log = "\n".join(lines)
            body = f"<details><summary>{esc(head)}</summary><pre>{esc(log)}</pre></details>"
            return Card("\n".join([head, *lines]), body)
        last = lines[-SHOWN_LINES:]
        body = f"<p>{esc(head)}</p><pre>{esc(chr(10).join(last))}</pre>"
        return Card("\n".join([head, *last]), body)
