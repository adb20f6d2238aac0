"""The programs beside the daemon: the load generator, the bare loop, the sink."""

import contextlib
import json
import os
import re
import subprocess

import harness
from harness import Process, wait_for
from observe import Failure, Usage

SENDING_MAX = 900.0  # seconds after which a sender is given up


def built(name):
    """Path of a program of this directory."""
    return os.path.join(harness.BUILD, "bench", name)


class Load:
    """One sender; its result is what it prints."""

    def __init__(self, mode, place="", **options):
        self.name = f"load {mode}"
        arguments = [built("load"), mode, *([str(place)] if place else [])]
        for key, value in options.items():
            if value is True:
                arguments.append("--" + key.replace("_", "-"))
            elif value is not None:
                arguments += ["--" + key.replace("_", "-"), str(value)]
        self.child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True)

    def result(self):
        """Waits for its end; what it says as a dict."""
        try:
            out, error = self.child.communicate(timeout=SENDING_MAX)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
            raise Failure(f"{self.name}: not done after {SENDING_MAX:.0f} s") from None
        except BaseException:
            self.child.kill()
            self.child.communicate()
            raise
        if self.child.returncode != 0:
            raise Failure(f"{self.name}: {error.strip()}")
        said = json.loads(out)
        if said.get("rejected"):
            raise Failure(f"{self.name}: {said['rejected']} events rejected")
        return said


def load(mode, place, **options):
    """Runs a sender to its end."""
    return Load(mode, place, **options).result()


def ids_of(seed, events):
    """The ids of a run, in order."""
    with subprocess.Popen([built("load"), "ids", "--seed", str(seed), "--events", str(events)],
                          stdout=subprocess.PIPE, text=True) as child:
        yield from (text.rstrip("\n") for text in child.stdout)


# What the daemon is compared with: name -> flags of bare_loop.
STREAM_LOOPS = {"bare": [], "bare_lz4": ["--lz4"], "bare_overlap": ["--overlap"],
                "bare_lz4_overlap": ["--lz4", "--overlap"]}
DATAGRAM_LOOPS = {"bare": [], "bare_overlap": ["--overlap"],
                  "bare_lz4_overlap": ["--lz4", "--overlap"]}


def run_bare(directory, flags, kind, events, seed):
    """One bare loop with the sender of the daemon: (seconds, CPU seconds, bytes written)."""
    path, file = os.path.join(directory, "bare.sock"), os.path.join(directory, "bare.out")
    datagram = ["--datagram", str(events)] if kind == "datagram" else []
    loop = Process([built("bare_loop"), path, file, *flags, *datagram],
                   os.path.join(directory, "bare.log"))
    try:
        wait_for(lambda: "listening" in loop.log() or not loop.running(), "the bare loop listens")
        if not loop.running():
            raise Failure(f"bare loop ended: {loop.log()}")
        usage = Usage(loop)
        per_write = 1 if datagram else None
        sender = Load(kind, path, events=events, seed=seed,
                      per_write=per_write or STREAM_EVENTS_PER_WRITE)
        cpu = written = 0.0
        while loop.running():  # a datagram loop ends by itself
            with contextlib.suppress(OSError, KeyError):
                _, cpu, written = usage.since()
            with contextlib.suppress(subprocess.TimeoutExpired):
                loop.child.wait(0.01)
        sender.result()
        said = re.search(r"events=(\d+) seconds=([\d.]+) events_per_s=\d+ file_bytes=(\d+)",
                         loop.log())
        if loop.wait() != 0 or not said or int(said[1]) != events:
            raise Failure(f"bare loop failed: {loop.log()}")
    finally:
        loop.kill()
        for left in (path, file, loop.log_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
    return float(said[2]), cpu, float(said[3])


STREAM_EVENTS_PER_WRITE = 800  # about 256 KiB, so that the sender costs little beside the receiver


class BareLoops:
    """The loops run before and after the daemon: disks change their mind, so it is compared with
    the mean of both."""

    def __init__(self, kind, directory, events, seed):
        self.kind, self.directory, self.events, self.seed = kind, directory, events, seed
        self.loops = STREAM_LOOPS if kind == "stream" else DATAGRAM_LOOPS
        self.runs = {name: [] for name in self.loops}

    def run(self):
        for name, flags in self.loops.items():
            self.runs[name].append(
                run_bare(self.directory, flags, self.kind, self.events, self.seed))

    def figures(self, daemon_events_per_s):
        """The loops' rates, and the daemon's over theirs."""
        found = {}
        for name, runs in self.runs.items():
            seconds = sum(run[0] for run in runs) / len(runs)
            rate = self.events / seconds
            found[f"{self.kind}_{name}_events_per_s"] = rate
            found[f"{self.kind}_{name}_cpu_us"] = (
                sum(run[1] for run in runs) / len(runs) / self.events * 1e6)
            found[f"{self.kind}_to_{name}"] = daemon_events_per_s / rate
        return found


class Sink(Process):
    """A TCP listener that counts lines and distinct ids: what the peers deliver to."""

    def __init__(self, directory, port=None):
        super().__init__([built("load"), "sink", "--port", str(port or harness.hold_port())],
                         os.path.join(directory, "sink.log"))
        self.begin = 0
        found = wait_for(lambda: re.findall(r"listening on (\d+)", self.log()), "the sink listens")
        self.port = int(found[-1])

    def counts(self):
        """(lines, distinct ids) so far."""
        said = re.findall(r"lines=(\d+) distinct=(\d+)", self.log().rpartition("listening")[2])
        return (int(said[-1][0]), int(said[-1][1])) if said else (0, 0)
