"""A small real HTTP server on the loopback that streams completions as a test scripts them.

It speaks just enough HTTP/1.1 (keep-alive, chunked bodies) for the two load clients, and lets a test choose
each byte and each pause, which a real model server does not.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

Payload = dict[str, Any]
Script = Callable[["Server", Payload], AsyncIterator[bytes]]  # yields reads of the body; CUT ends it there
CUT = b"CUT THE CONNECTION"


class Status(Exception):
    """Raised by a script before its first yield: answer with this status and body."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.code, self.text = code, text


class Server:
    """`with Server(script) as server:` serves on server.url until the block ends."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.payloads: list[Payload] = []
        self.sent_s: list[list[float]] = []  # per request, when each part of the body was written
        self.active = self.most_active = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def wait_for(self, requests: int) -> None:
        """Until so many requests have come in; a client that never sends them runs into its own timeout."""
        while len(self.payloads) < requests:
            await asyncio.sleep(0.001)

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        lengths = [line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0]) if lengths else 0)
        if not head.startswith("post /v1/completions"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        payload = json.loads(body)
        self.payloads.append(payload)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._stream(payload, writer)
        finally:
            self.active -= 1

    async def _stream(self, payload: Payload, writer: asyncio.StreamWriter) -> bool:
        times: list[float] = []
        self.sent_s.append(times)
        started = False
        try:
            async for part in self.script(self, payload):
                if not started:
                    head = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    writer.write(b"HTTP/1.1 200 OK\r\n" + head)
                    started = True
                if part == CUT:
                    return False
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
                times.append(time.perf_counter())
        except Status as status:
            text = status.text.encode()
            writer.write(b"HTTP/1.1 %d Oops\r\nContent-Length: %d\r\n\r\n%s" % (status.code, len(text), text))
            return True
        writer.write(b"0\r\n\r\n")
        self.active -= 1  # before the client can see the end and send its next request
        try:
            await writer.drain()
        finally:
            self.active += 1
        return True


def event(ids: Sequence[int] | None, text: str = "") -> bytes:
    """One event of a completion stream with these new tokens; None leaves token_ids out."""
    choice: dict[str, Any] = {"index": 0, "text": text}
    if ids is not None:
        choice["token_ids"] = list(ids)
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


def usage(payload: Payload, tokens: int) -> bytes:
    """The last event that a client gets which asks for usage; else nothing."""
    if not (payload.get("stream_options") or {}).get("include_usage"):
        return b""
    found = {"prompt_tokens": len(payload["prompt"]), "completion_tokens": tokens}
    return b"data: " + json.dumps({"id": "x", "choices": [], "usage": found}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def steady(first: float = 0.0, gap: float = 0.0) -> Script:
    """Every request gets its max_tokens one by one: the first after `first` seconds, then `gap` apart."""

    async def script(server: Server, payload: Payload) -> AsyncIterator[bytes]:
        for i in range(payload["max_tokens"]):
            await asyncio.sleep(gap if i else first)
            yield event([i])
        yield usage(payload, payload["max_tokens"]) + DONE

    return script
