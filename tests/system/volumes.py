"""What a directory takes, and small volumes to be filled: a tmpfs, and an ext4 in a file. Both need
root."""

import contextlib
import errno
import os
import shutil
import subprocess
import unittest

MIB = 1 << 20


def directory_bytes(directory):
    """What it takes on disk; files may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


class Volume:
    """Mounted at a directory that it makes; unmounted with close()."""

    def __init__(self, kind, path, size_mib):
        self.path = path
        self.image = None
        os.makedirs(path)
        if kind == "tmpfs":
            self._run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", path)
        else:
            self.image = path + ".img"
            with open(self.image, "wb") as file:
                file.truncate(size_mib * MIB)
            if shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
                raise unittest.SkipTest("an ext4 volume needs mkfs.ext4 (e2fsprogs)")
            self._run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
            self._run("mount", "-o", "loop", self.image, path)
        self.filler = os.path.join(path, "filler")

    def _run(self, *command):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True,
                              text=True, check=False, timeout=60)
        if done.returncode != 0:
            self.close()
            raise unittest.SkipTest(f"{' '.join(command[:3])} is not possible here: "
                                    f"{done.stderr.strip() or done.returncode}; run as root")

    def fill(self):
        """Takes what is left, to the last block; may be called again."""
        with open(self.filler, "ab", buffering=0) as file:
            for size in (MIB, 4096, 512):
                with contextlib.suppress(BlockingIOError):
                    self._fill(file, size)

    @staticmethod
    def _fill(file, size):
        block = os.urandom(size)
        try:
            while True:
                file.write(block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self):
        os.unlink(self.filler)

    def close(self):
        subprocess.run(["umount", self.path], capture_output=True, check=False, timeout=60)
        if self.image:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.image)
