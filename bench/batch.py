"""A backlog that an upstream of kind `batch` takes, by each way to compress a request."""

from phases import Scene, deliver, verify
from programs import STREAM_EVENTS_PER_WRITE, load


def batch(options, directory, progress):
    """The phase: every event becomes one row, whatever the coding."""
    figures = {}
    for coding in ("none", "gzip", "zstd"):
        figures |= one(options, directory, progress, coding)
    return figures


def one(options, directory, progress, coding):
    """CPU and rate of the delivery alone."""
    count = max(options.events // 4, 1000)
    config = f"upstream: {{kind: batch, batch_compression: {coding}}}\n"
    with Scene(options, directory, progress, up=False, config=config) as scene:
        progress.show(f"batch: {coding}")
        scene.upstream.control(batch={"codings": "gzip_zstd"})
        load("stream", scene.path("telemetry.stream.sock"), events=count, seed=options.seed,
             per_write=STREAM_EVENTS_PER_WRITE)
        scene.wait_taken("batch", count)
        said = deliver(scene, count)
        verify(scene, count)
        return {f"batch_{coding}_cpu_us": said["deliver_cpu_us"],
                f"batch_{coding}_events_per_s": said["deliver_events_per_s"]}
