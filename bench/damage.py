"""Starts of the daemon on a full spool with damage: how long each takes until it is ready."""

import argparse
import glob
import os
import shutil
import time

from observe import Failure, disk_bytes
from phases import STALLED, Scene
from programs import STREAM_EVENTS_PER_WRITE, load

SPOOL = "512MiB"  # the default of spool.max_bytes
FULL_BYTES = 450 << 20  # intake closes a little above
CHUNK = 200_000  # events between two looks at how full it is
SMALL = ("none", "log_cut", "log_middle", "manifest_gone", "current_gone")  # need no large tables


def files(spool, pattern):
    """Of the database, by age."""
    return sorted(glob.glob(os.path.join(spool, "db", pattern)))


def cut(path, part):
    os.truncate(path, int(os.path.getsize(path) * part))


def flip(path, part):
    """One byte."""
    with open(path, "r+b") as file:
        at = int(os.path.getsize(path) * part)
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))


def tables(spool):
    """Those with segments, by age: the larger ones."""
    found = [path for path in files(spool, "*.sst") if os.path.getsize(path) > 1 << 20]
    if len(found) < 10:
        raise Failure(f"damaged: only {len(found)} large tables in {spool}")
    return found


def largest(spool, pattern):
    return max(files(spool, pattern), key=os.path.getsize)


def each(paths, harm, *arguments):
    for path in paths:
        harm(path, *arguments)


# name -> what is done to the spool.
DAMAGE = {
    "none": lambda spool: None,
    "log_cut": lambda spool: cut(largest(spool, "*.log"), 0.5),
    "log_middle": lambda spool: flip(largest(spool, "*.log"), 0.3),
    "log_gone": lambda spool: os.unlink(files(spool, "*.log")[-1]),
    "table_block": lambda spool: flip(tables(spool)[5], 0.5),
    "table_cut": lambda spool: cut(tables(spool)[5], 0.5),
    "tables_cut": lambda spool: each(tables(spool)[::2], cut, 0.9),
    "manifest_end": lambda spool: cut(files(spool, "MANIFEST-*")[-1], 0.5),
    "manifest_middle": lambda spool: flip(files(spool, "MANIFEST-*")[-1], 0.5),
    "manifest_gone": lambda spool: os.unlink(files(spool, "MANIFEST-*")[-1]),
    "current_gone": lambda spool: os.unlink(os.path.join(spool, "db", "CURRENT")),
}


def fill(scene):
    """Events until the spool is full; how many."""
    relay, options, sent = scene.relay, scene.options, 0
    chunk = min(CHUNK, options.events)
    while sent == 0 or (not options.smoke and disk_bytes(relay.spool_dir) < FULL_BYTES):
        scene.progress.show(f"damaged: filling the spool, {sent} events")
        load("stream", relay.path("telemetry.stream.sock"), events=chunk,
             seed=options.seed * 1000 + sent // chunk, per_write=STREAM_EVENTS_PER_WRITE)
        sent += chunk
        scene.wait_taken("damaged", sent)
    return sent


def start(relay):
    """Seconds from `fork` to 200 from /readyz."""
    begin = time.monotonic()
    relay.start(ready=False)
    while not relay.ready():
        if not relay.running() or time.monotonic() - begin > STALLED:
            raise Failure(f"damaged: not ready: {relay.log()[-2000:]}")
        time.sleep(0.001)
    return time.monotonic() - begin


def damaged(options, directory, progress):
    """A full spool after kill -9, damaged in one way after the other: start to ready."""
    options = argparse.Namespace(**{**vars(options), "spool": SPOOL})
    figures = {}
    with Scene(options, directory, progress, up=False) as scene:
        count, relay = fill(scene), scene.relay
        relay.kill()
        whole = relay.spool_dir + "-whole"
        os.rename(relay.spool_dir, whole)
        figures["damaged_spool_mib"] = disk_bytes(whole) / 2**20
        for name, harm in DAMAGE.items():
            if options.smoke and name not in SMALL:
                continue
            progress.show(f"damaged: {name}")
            shutil.copytree(whole, relay.spool_dir)
            harm(relay.spool_dir)
            figures[f"damaged_{name}_ready_ms"] = start(relay) * 1e3
            figures[f"damaged_{name}_recovered"] = relay.ledger()["recovered"] / count * 100
            relay.kill()
            shutil.rmtree(relay.spool_dir)
        shutil.rmtree(whole)
        relay.start()  # an empty one: the scene ends it
    return figures
