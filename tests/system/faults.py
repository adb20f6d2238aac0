"""Faults of the file system in a running daemon: drives fault_shim.cpp through a mapped file."""

import errno
import mmap
import os
import struct

from harness import BUILD, wait_for

SHIM = os.path.join(BUILD, "tests", "system", "libfault_shim.so")
# What the sanitizers need to hear when something is preloaded before their own library.
SANITIZERS = "verify_asan_link_order=0"

# In the order of the shim's enumerations.
CALLS = ("write", "fsync", "fdatasync", "open", "rename", "ftruncate", "fallocate", "unlink",
         "link", "mkdir")
MODES = ("fail", "half", "stall")
RULES_MAX = 8
RULE_BYTES = 128
COUNTS = struct.Struct("=IIiIIII")


class Fault:
    """One rule. `calls` are names of CALLS with spaces between; `path` is a pattern, as for the
    shell, in which * also matches slashes. The first `skip` matching calls pass, then `times` are
    hit; 0: all of them."""

    def __init__(self, calls, path, mode="fail", error="EIO", skip=0, times=0):
        self.calls = sum(1 << CALLS.index(call) for call in calls.split())
        self.path = path.encode()
        self.mode = MODES.index(mode)
        self.error = getattr(errno, error)
        self.skip = skip
        self.times = times

    def packed(self):
        assert len(self.path) < RULE_BYTES - COUNTS.size, self.path
        head = COUNTS.pack(self.calls, self.mode, self.error, self.skip, self.times, 0, 0)
        return (head + self.path).ljust(RULE_BYTES, b"\0")


class Faults:
    """The rules in force in every process with this environment; begin() and end() change them."""

    def __init__(self, directory):
        path = os.path.join(directory, "faults")
        with open(path, "wb") as file:
            file.write(bytes(4096))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 4096)
        self.generation = 0
        self.environment = {"LD_PRELOAD": SHIM, "FAULT_SHIM": path,
                            "ASAN_OPTIONS": ":".join(filter(None, (
                                os.environ.get("ASAN_OPTIONS"), SANITIZERS)))}

    def begin(self, *faults):
        """These, and no others, from now on."""
        assert len(faults) <= RULES_MAX
        self._set(0)
        for index, fault in enumerate(faults):
            start = RULE_BYTES * (index + 1)
            self.map[start:start + RULE_BYTES] = fault.packed()
        self._set(len(faults))

    def end(self):
        self._set(0)

    def hits(self, index=0):
        """How many calls the rule has hit."""
        return COUNTS.unpack_from(self.map, RULE_BYTES * (index + 1))[6]

    def wait_hit(self, count=1, index=0):
        wait_for(lambda: self.hits(index) >= count, f"fault {index} met {count} times")

    def _set(self, active):
        self.generation += 1
        struct.pack_into("=II", self.map, 0, active, self.generation)
