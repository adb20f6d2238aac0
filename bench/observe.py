"""What /proc and the file system say about a process, and how a run is given up."""

import contextlib
import os
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something is wrong with what came out; the text says what."""


class Progress:
    """One line on stderr that changes, when that is a terminal."""

    def __init__(self):
        self.enabled = sys.stderr.isatty()

    def show(self, text):
        if self.enabled:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self):
        self.show("")


def cpu_seconds(pid):
    """User and system time of a process so far, all threads, those that ended too."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def thread_seconds(pid):
    """CPU time by thread name, in nanosecond resolution; threads of one name together."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as file:
                name = file.read().strip()
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                found[name] = found.get(name, 0) + int(file.read().split()[0]) / 1e9
    return found


def table(path):
    """A file of "key: number [unit]" lines as a dict."""
    with open(path, encoding="ascii", errors="replace") as file:
        pairs = (text.partition(":") for text in file)
        return {key: int(value.split()[0]) for key, _, value in pairs
                if value.split() and value.split()[0].isdigit()}


def memory_mib(pid):
    """Of a process in MiB: resident now, highest so far, and of what is resident not file pages."""
    status = table(f"/proc/{pid}/status")
    return status["VmRSS"] / 1024, status["VmHWM"] / 1024, status["RssAnon"] / 1024


def reset_peak(pid):
    """From here on the highest resident size counts anew."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def written_bytes(pid):
    """Bytes that a process caused to be sent to the storage layer."""
    return table(f"/proc/{pid}/io")["write_bytes"]


def disk_bytes(directory):
    """Blocks taken by the files below a directory."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
    return total


def file_system(directory):
    """Type of the file system that holds a directory."""
    best, kind = "", "unknown"
    path = os.path.realpath(directory)
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for text in mounts:
            _, point, this_kind = text.split()[:3]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, this_kind
    return kind


def machine():
    """Processor, memory, kernel: nothing that names the host."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [text.partition(":")[2].strip() for text in file if text.startswith("model name")]
    memory = table("/proc/meminfo")["MemTotal"] / 2**20
    with open("/proc/loadavg", encoding="ascii") as file:
        load = file.read().split()[0]
    return {"processor": models[0] if models else "unknown", "cpus": os.cpu_count(),
            "memory_gib": round(memory, 1), "kernel": os.uname().release,
            "architecture": os.uname().machine, "load_before": float(load)}


class Usage:
    """What a process used since this was made."""

    def __init__(self, process):
        self.pid = process.pid
        self.threads_before = thread_seconds(self.pid)
        self.start = self._now()

    def _now(self):
        return time.monotonic(), cpu_seconds(self.pid), written_bytes(self.pid)

    def since(self):
        """(seconds, CPU seconds, bytes written)."""
        return tuple(b - a for a, b in zip(self.start, self._now()))

    def threads(self):
        """CPU seconds by thread name."""
        return {name: seconds - self.threads_before.get(name, 0)
                for name, seconds in thread_seconds(self.pid).items()}
