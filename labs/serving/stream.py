"""One streamed completion: send it, stamp what arrives, fill in a "request" row (labs/core/metrics.py).

Every read from the socket is stamped when it comes, before it is parsed. Tokens are counted by the ids that
the server sends (`return_token_ids`), never by tokenising text again; a server that sends none is an error.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from labs.core.record import Row

Clock = Callable[[], float]  # seconds since the run began


class EventParser:
    """Server-sent events out of reads of any size: the `data:` payload of each event that is complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The events that end in `data`; what is left waits for the next read. Comments are passed over."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        events = []
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events


class StreamError(Exception):
    """The server answered something else than the stream that was asked for."""


def body(
    model: str, prompt: list[int], max_tokens: int, priority: int, ignore_eos: bool, extra: dict[str, Any]
) -> bytes:
    """The JSON body of POST /v1/completions: greedy, streamed, token ids in and out."""
    payload: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": ignore_eos,
        "stream": True,
        "return_token_ids": True,
    }
    if priority:  # a server without priority scheduling refuses any other than 0
        payload["priority"] = priority
    return json.dumps({**payload, **extra}).encode()


async def complete(
    session: aiohttp.ClientSession,
    url: str,
    data: bytes,
    row: Row,
    clock: Clock,
    *,
    exact: bool,
    keep_ids: bool,
) -> Row:
    """Send one request and fill `row` (needs input: intended_s, max_tokens); failures end up in row["error"].

    exact: anything but max_tokens tokens is an error. keep_ids: keep the tokens in row["output_ids"].
    """
    ids: list[int] = []
    row["token_s"] = []
    row["sent_s"] = clock()
    try:
        async with session.post(url, data=data, headers={"Content-Type": "application/json"}) as response:
            if response.status != 200:
                text = (await response.content.read(65536)).decode(errors="replace")
                raise StreamError(f"HTTP {response.status}: {_message(text) or response.reason}")
            await _read(response, row["token_s"], ids, clock)
        if not ids:
            raise StreamError("the stream ended without a token")
        if exact and len(ids) != row["max_tokens"]:
            raise StreamError("the stream ended early")
    except (StreamError, aiohttp.ClientError, TimeoutError, OSError) as error:
        row["error"] = _reason(error, len(ids), row["max_tokens"])
    row["finished_s"] = clock()
    row["output_tokens"] = len(ids)
    if keep_ids:
        row["output_ids"] = ids
    return row


async def _read(response: aiohttp.ClientResponse, times: list[float], ids: list[int], clock: Clock) -> None:
    parser = EventParser()
    done = False
    async for data in response.content.iter_any():
        stamp = clock()
        for event in parser.feed(data):
            if event == b"[DONE]":
                done = True
                continue
            new = _token_ids(event)
            ids += new
            times += [stamp] * len(new)
    if not done:
        raise StreamError("the stream was cut")


def _token_ids(event: bytes) -> list[int]:
    """The new tokens of one event; an event without choices (usage) has none."""
    try:
        message = json.loads(event)
    except ValueError:
        raise StreamError(f"an event is not JSON: {event[:80]!r}") from None
    if not isinstance(message, dict) or "error" in message:
        raise StreamError(_message(event.decode(errors="replace")) or f"unexpected event: {event[:80]!r}")
    choices = message.get("choices") or []
    if not choices:
        return []
    found = choices[0].get("token_ids")
    if not isinstance(found, list):
        raise StreamError("the server sends no token ids (return_token_ids); text is not counted instead")
    return found


def _message(text: str) -> str:
    """The reason in an OpenAI-style error body, or the start of the text; one line."""
    try:
        data = json.loads(text)
        found = data.get("error", data)
        found = found.get("message", found) if isinstance(found, dict) else found
        text = found if isinstance(found, str) else json.dumps(found)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:300]


def _reason(error: BaseException, received: int, wanted: int) -> str:
    """One line for the row; says how far the stream had come."""
    after = f" after {received} of {wanted} tokens" if received else ""
    if isinstance(error, StreamError):
        return f"{str(error).rstrip('.') if after else error}{after}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "timeout while connecting"
    if isinstance(error, aiohttp.SocketTimeoutError):
        return f"the server sent nothing until the stall timeout{after}"
    if isinstance(error, asyncio.TimeoutError):
        return f"the request timeout passed{after}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError):
        return f"the server closed the connection{after or ' before the first token'}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{after}"
