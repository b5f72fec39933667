"""A real S3 protocol server on loopback, and a proxy before it that fails in the ways networks and object stores do."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = ("429", "503", "timeout", "reset", "cut", "lost")
"""Too many requests; unavailable; no answer; reset before the request is read; half of the answer; all of it lost."""

BUSY = b"HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultyProxy:
    """Passes one request a connection on to a server; a share of them, drawn by a seed, goes wrong."""

    def __init__(self, port: int, *, share: float, seed: int, kinds: tuple[str, ...] = KINDS) -> None:
        self.upstream, self.share, self.kinds = port, share, kinds
        self.random, self.done = random.Random(seed), Counter()
        self.loop = asyncio.new_event_loop()
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fault = self.random.choice(self.kinds) if self.random.random() < self.share else "none"
            self.done[fault] += 1
            length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
            if fault == "reset":
                writer.transport.abort()
                return
            body = await reader.readexactly(length)
            if fault in ("429", "503"):
                writer.write(BUSY % ((429, b"Too Many Requests") if fault == "429" else (503, b"Slow Down")))
            elif fault == "timeout":
                await asyncio.sleep(3)
            else:
                answer = await self._forward(head, body)
                if fault == "cut":
                    writer.write(answer[: len(answer) // 2])
                elif fault == "none":
                    writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
        return b"\r\n".join([*kept, b"Connection: close", b"", b""]) + rest

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield the proxy's address while it runs."""
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        thread.start()
        ready.wait()
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
