"""The sending half of the load client, in a process of its own: `python -m labs.serving.client PLAN OUT`.

Open loop: a dispatcher starts each request at its arrival time and never waits for an earlier one; under a
cap on concurrency a request waits for a slot, and that wait is part of its latency. Closed loop: N workers,
each sends its next request when its last one has ended. The garbage collector is off while requests run. A
monitor measures how late the event loop wakes, which shows whether the client itself was the bottleneck.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict

from labs.core.metrics import latency
from labs.core.record import Row
from labs.serving import stream
from labs.serving.workload import Request

MONITOR_SECONDS = 0.01
PROGRESS_SECONDS = 2.0


class Plan(BaseModel):
    """What the sender needs to know, as it stands in PLAN.json. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    model: str
    run: str
    requests: list[Request]
    warmup: list[Request]
    arrivals: list[float] | None
    concurrency: int | None
    ignore_eos: bool
    request_timeout_s: float
    stall_timeout_s: float
    extra_body: dict[str, Any]
    keep_ids: bool


class Sender:
    """Sends the requests of one plan over one session and keeps their rows."""

    def __init__(self, plan: Plan, session: aiohttp.ClientSession) -> None:
        self.plan, self.session = plan, session
        self.url = f"{plan.url}/v1/completions"
        self.own_clients = any(request.client for request in plan.requests)
        self.began = 0.0
        self.sent = self.done = self.failed = 0

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.began

    async def warm_up(self) -> list[Row]:
        """The warm-up requests, as many at once as the plan's concurrency allows."""
        self.began = time.perf_counter()
        limit = asyncio.Semaphore(self.plan.concurrency or max(len(self.plan.warmup), 1))

        async def one(index: int, request: Request) -> Row:
            async with limit:
                return await self._send(index, request, self._body(request), self.clock(), request.client)

        return list(await asyncio.gather(*(one(i, r) for i, r in enumerate(self.plan.warmup))))

    async def run(self) -> list[Row]:
        """All requests of the plan; rows in the order of the requests."""
        bodies = [self._body(request) for request in self.plan.requests]
        self.sent = self.done = self.failed = 0
        self.began = time.perf_counter()
        if self.plan.arrivals is not None:
            return await self._open_loop(bodies, self.plan.arrivals)
        return await self._closed_loop(bodies)

    async def _open_loop(self, bodies: list[bytes], arrivals: list[float]) -> list[Row]:
        cap = asyncio.Semaphore(self.plan.concurrency) if self.plan.concurrency else None

        async def one(index: int, request: Request, due: float) -> Row:
            if cap is None:
                return await self._send(index, request, bodies[index], due, request.client)
            waiting = self.clock()
            async with cap:
                queued = self.clock() - waiting
                return await self._send(index, request, bodies[index], due, request.client, queued)

        tasks = []
        for index, (request, due) in enumerate(zip(self.plan.requests, arrivals, strict=True)):
            while (left := due - self.clock()) > 0:  # a timer may fire up to half a millisecond early
                await asyncio.sleep(left)
            tasks.append(asyncio.create_task(one(index, request, due)))
        return list(await asyncio.gather(*tasks))

    async def _closed_loop(self, bodies: list[bytes]) -> list[Row]:
        todo = iter(enumerate(self.plan.requests))
        rows: list[Row] = []

        async def worker(number: int) -> None:
            for index, request in todo:
                client = request.client if self.own_clients else number
                rows.append(await self._send(index, request, bodies[index], self.clock(), client))

        await asyncio.gather(*(worker(i) for i in range(self.plan.concurrency or 1)))
        return sorted(rows, key=lambda row: row["request"])

    async def _send(
        self, index: int, request: Request, body: bytes, due: float, client: int, queued: float = 0.0
    ) -> Row:
        row: Row = {
            "kind": "request",
            "run": self.plan.run,
            "request": index,
            "client": client,
            "class": request.cls,
            "input_tokens": len(request.prompt_token_ids),
            "max_tokens": request.max_tokens,
            "intended_s": due,
            "queue_s": queued,
            "error": None,
        }
        self.sent += 1
        await stream.complete(
            self.session,
            self.url,
            body,
            row,
            self.clock,
            exact=self.plan.ignore_eos,
            keep_ids=self.plan.keep_ids,
        )
        self.done += 1
        self.failed += row["error"] is not None
        return row

    def _body(self, request: Request) -> bytes:
        plan = self.plan
        return stream.body(
            plan.model,
            request.prompt_token_ids,
            request.max_tokens,
            request.priority,
            plan.ignore_eos,
            plan.extra_body,
        )


async def execute(plan: Plan) -> dict[str, Any]:
    """Warm up, run the plan, and return rows and the client's own figures."""
    timeout = aiohttp.ClientTimeout(
        total=plan.request_timeout_s, sock_connect=plan.stall_timeout_s, sock_read=plan.stall_timeout_s
    )
    # vLLM's server closes a connection that was idle for 5 s; one that is just being closed cannot be reused.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        sender = Sender(plan, session)
        warm = await sender.warm_up()
        late: list[float] = []
        helpers = [asyncio.create_task(_monitor(late)), asyncio.create_task(_progress(sender))]
        with _no_gc():
            cpu, wall = time.process_time(), time.perf_counter()
            rows = await sender.run()
            seconds = time.perf_counter() - wall
            busy = (time.process_time() - cpu) / seconds
        for task in helpers:
            task.cancel()
    return {
        "rows": rows,
        "warmup_rows": warm,
        "seconds": seconds,
        "busy": busy,
        "loop_lag": latency(late).model_dump(),
        "event_loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
    }


async def _monitor(late: list[float]) -> None:
    """How late the event loop resumes a sleep, seconds, sampled a hundred times a second."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(MONITOR_SECONDS)
        late.append(max(0.0, time.perf_counter() - before - MONITOR_SECONDS))


async def _progress(sender: Sender) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        failed = f", {sender.failed} failed" if sender.failed else ""
        total = len(sender.plan.requests)
        print(
            f"{sender.clock():.0f} s: {sender.sent} sent, {sender.done} of {total} done{failed}", flush=True
        )


@contextmanager
def _no_gc() -> Iterator[None]:
    """No garbage collection inside: a pause would show as latency of the server."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
