"""What reaches an upstream that is far away and fails now and then, against what could."""

import time

from observe import Failure
from phases import Scene
from programs import STREAM_EVENTS_PER_WRITE, load

CONNECTIONS = 8
LATENCY_MS = 50
FAULTS_PER_MILLE = 10  # 503 without a Retry-After


def goodput(options, directory, progress):
    """The phase: each way to choose how many requests are in flight."""
    figures = {}
    for mode in ("fixed", "adaptive"):
        figures |= one(options, directory, progress, mode)
    return figures


def one(options, directory, progress, mode):
    """A backlog, delivered over CONNECTIONS connections: its rate over connections / latency."""
    count = options.goodput_events
    config = f"upstream: {{connections: {CONNECTIONS}, concurrency: {mode}}}\n"
    with Scene(options, directory, progress, up=False, config=config) as scene:
        progress.show(f"goodput: {mode}")
        load("stream", scene.path("telemetry.stream.sock"), events=count, seed=options.seed,
             per_write=STREAM_EVENTS_PER_WRITE)
        scene.wait_taken("goodput", count)
        scene.upstream.control(down=False, latency_ms=LATENCY_MS, seed=options.seed,
                               rates={"503_empty": FAULTS_PER_MILLE})
        # It finds out by itself that the upstream is there; that is not what is measured.
        first = scene.wait_ledger("goodput", lambda now: now["delivered"] > 0, 0.005)["delivered"]
        begin = time.monotonic()
        scene.wait_delivered("goodput")
        rate = (count - first) / (time.monotonic() - begin)
        stats = scene.upstream.stats()
        if stats["rows"] != count or stats["by_fault"].get("503_empty", 0) == 0:
            raise Failure(f"goodput: {count} events, or no faults: {stats}")
        ideal = CONNECTIONS / (LATENCY_MS / 1e3)
        return {f"goodput_{mode}_to_ideal": rate / ideal,
                f"goodput_{mode}_events_per_s": rate,
                f"goodput_{mode}_requests_per_event": stats["requests"] / count}
