"""A backlog delivered by single POSTs: one request at a time on a connection, and several, beside the
upstream and behind a long way to it."""

import asyncio
import contextlib
import threading
from urllib.parse import urlsplit

from phases import Scene, deliver, verify
from programs import STREAM_EVENTS_PER_WRITE, load

DEPTHS = (1, 16)
WAY_SECONDS = 0.025  # in each direction: 50 ms from request to reply
PIECE = 1 << 16


def pipelined(options, directory, progress):
    """The phase: near and far, by depth."""
    figures = {}
    near = max(options.events // 4, 1000)
    far = max(options.events // 250, 400)
    for name, count, way in (("near", near, 0.0), ("far", far, WAY_SECONDS)):
        rates = {}
        for depth in DEPTHS:
            said = one(options, directory, progress, name, depth, count, way)
            rates[depth] = said["deliver_events_per_s"]
            figures[f"pipelined_{name}_{depth}_events_per_s"] = rates[depth]
            figures[f"pipelined_{name}_{depth}_cpu_us"] = said["deliver_cpu_us"]
        figures[f"pipelined_{name}_ratio"] = rates[DEPTHS[-1]] / rates[DEPTHS[0]]
    return figures


def one(options, directory, progress, name, depth, count, way):
    """One delivery; every event becomes one row."""
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(LongWay(way)) if way else None
        more = f"upstream: {{pipeline: {depth}}}\n"
        scene = stack.enter_context(
            Scene(options, directory, progress, up=False, config=more, way=line))
        progress.show(f"pipelined: {name}, {depth}")
        load("stream", scene.path("telemetry.stream.sock"), events=count, seed=options.seed,
             per_write=STREAM_EVENTS_PER_WRITE)
        scene.wait_taken("pipelined", count)
        said = deliver(scene, count)
        verify(scene, count)
        return said


class LongWay:
    """Passes bytes on after `seconds`, in both directions; in a thread of its own."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.server = None
        self.to = None

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def end(self):
        if self.server:
            self.server.close()
        mine = asyncio.all_tasks() - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def url(self, upstream_url):
        """Where to ask instead of there."""
        there = urlsplit(upstream_url)
        self.to = (there.hostname, there.port)
        opened = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self.serve, "127.0.0.1", 0), self.loop)
        self.server = opened.result(10)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.to)
        except OSError:
            return writer.close()
        return await asyncio.gather(self.carry(reader, far_writer), self.carry(far_reader, writer))

    async def carry(self, reader, writer):
        while True:
            try:
                piece = await reader.read(PIECE)
            except OSError:
                piece = b""
            if not piece:
                self.loop.call_later(self.seconds, writer.close)
                return
            self.loop.call_later(self.seconds, writer.write, piece)
