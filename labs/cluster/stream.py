"""A process's output as lines while it comes, with a copy in a log file."""

import os
from pathlib import Path
from typing import IO

LONGEST_LINE = 65536  # bytes; a longer one is passed on in pieces


class Lines:
    """Reads a pipe without waiting. Progress bars (text after a carriage return) count once, as they end."""

    def __init__(self, pipe: IO[bytes], log: Path) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._pipe = pipe
        self._log = open(log, "ab", buffering=0)  # noqa: SIM115  closed by `close`
        self._path = log
        self._buffer = b""
        self.ended = False  # the other end is closed

    def read(self) -> list[str]:
        """The lines that are complete by now."""
        for _ in range(64):  # a process that never stops printing must not keep us here
            if self.ended:
                break
            try:
                data = os.read(self._pipe.fileno(), 65536)
            except BlockingIOError:
                break
            self.ended = not data
            self._log.write(data)
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > LONGEST_LINE:
            lines, self._buffer = [*lines, self._buffer], b""
        return [_text(line) for line in lines]

    def rest(self) -> str:
        """What stands after the last newline."""
        line, self._buffer = self._buffer, b""
        return _text(line)

    def write(self, text: str) -> None:
        """Add to the log."""
        self._log.write(text.encode())

    def text(self) -> str:
        """The whole log so far."""
        return self._path.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Close the log. The pipe belongs to the process."""
        self._log.close()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
