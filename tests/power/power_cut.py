#!/usr/bin/env python3
"""Cuts the power of a small virtual machine under load, again and again, and checks every event
that was acknowledged in it.

The machine is QEMU with Debian's cloud kernel, BusyBox, opsrelay and three senders (1, 20 and 2,000
events a write). All writes to its disk are logged, and the power goes at any moment of its life
under load; what it had acknowledged by then counts. After the cut the disk is what disk_log.py
makes of it: everything up to the last flush, and of later writes whatever the dice say, torn at
blocks.
The next cycle goes on with that disk, so ext4 and opsrelay recover from it. In the end one more
machine delivers everything, and each acknowledged event must be a row, once.

  power_cut.py [--cycles N] [--seed N] [--seconds-max S] [--boot-seconds S] [--kvm] [--keep]

Needs: apt-get install qemu-system-x86 busybox-static kmod cpio e2fsprogs; the kernel is downloaded
with apt-get and unpacked, not installed. Programs come from RELAYTEST_BUILD. Exit code 1: an
acknowledged event is missing, or came twice.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import disk_log

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = ("qemu-system-x86_64", "busybox", "depmod", "modprobe", "cpio", "mkfs.ext4", "apt-get")
PROGRAMS = ("daemon/opsrelay", "tests/upstream/opsrelay-upstream")
MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
DISK_MIB = 1024
DRAIN_SECONDS = 300


class Failure(Exception):
    """What went wrong, for a human."""


def run(*command, **options):
    """Runs a command; its output is in the error when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False,
                          timeout=600, **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def get_kernel(scratch):
    """Debian's cloud kernel, unpacked: (vmlinuz, directory with lib/modules, version)."""
    where = scratch / "kernel"
    where.mkdir()
    depends = run("apt-cache", "depends", "linux-image-cloud-amd64")
    package = re.search(r"linux-image-\S*-cloud-amd64", depends.partition("\n")[2])
    if not package:
        raise Failure("apt knows no linux-image-cloud-amd64; run apt-get update")
    run("apt-get", "-qq", "download", package[0], cwd=where)
    run("dpkg-deb", "-x", next(where.glob("*.deb")), where)
    version = next((where / "lib/modules").iterdir()).name
    run("depmod", "-b", where, version)
    return where / f"boot/vmlinuz-{version}", where, version


def copy_into(root, path):
    """A file at the same place below `root`, links followed."""
    to = root / str(path).lstrip("/")
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        shutil.copy2(os.path.realpath(path), to)


def libraries_of(program):
    """The shared libraries and the loader."""
    return re.findall(r"(/\S+) \(0x", run("ldd", program))


def make_initramfs(scratch, build):
    """Everything the machine runs; returns (kernel, initramfs)."""
    kernel, unpacked, version = get_kernel(scratch)
    root = scratch / "root"
    for name in ("bin", "proc", "sys", "dev", "run", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy2(shutil.which("busybox"), root / "bin/busybox")
    for applet in run(root / "bin/busybox", "--list").split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for name in PROGRAMS:
        program = os.path.join(build, name)
        to = root / "bin" / os.path.basename(name)
        run("strip", "-o", to, program)
        for library in libraries_of(program):
            copy_into(root, library)
    needed = []
    for module in MODULES:
        for line in run("modprobe", "-d", unpacked, "-S", version, "--show-depends",
                        module).splitlines():
            if line.startswith("insmod ") and line.split()[1] not in needed:
                needed.append(line.split()[1])
    for path in needed:
        shutil.copy2(path, root / "modules")
    (root / "modules.list").write_text(
        "".join(f"/modules/{os.path.basename(path)}\n" for path in needed), encoding="ascii")
    shutil.copy2(HERE / "guest.sh", root / "init")
    archive = scratch / "initramfs"
    with open(archive, "wb") as out:
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        made = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, check=True,
                              input=names.encode(), stdout=subprocess.PIPE)
        out.write(made.stdout)
    return kernel, archive


class Machine:
    """One boot. `report` is what the guest said on its second serial line."""

    def __init__(self, scratch, boot, drive, parameters):
        kernel, initramfs, accelerator = boot
        self.report_path = scratch / "report"
        self.console_path = scratch / "console"
        self.report_path.write_bytes(b"")
        self.child = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", accelerator, "-m", "768", "-smp", "2", "-nodefaults",
             "-display", "none", "-no-reboot", "-kernel", str(kernel), "-initrd", str(initramfs),
             "-append", f"console=ttyS0 quiet panic=-1 no_timer_check {parameters}",
             "-serial", f"file:{self.console_path}", "-serial", f"file:{self.report_path}",
             *drive, "-device", "virtio-blk-pci,drive=disk"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()

    def report(self):
        """The complete lines so far."""
        text = self.report_path.read_bytes().replace(b"\r", b"").decode(errors="replace")
        return text[:text.rfind("\n") + 1].splitlines()

    def wait(self, seconds, reached):
        """Until `reached(lines)`; Failure with the console when the machine ends before."""
        end = time.monotonic() + seconds
        while True:
            lines = self.report()
            if reached(lines):
                return lines
            failed = [line for line in lines if line.startswith("FAILED")]
            ended = self.child.poll() is not None
            if failed or ended or time.monotonic() > end:
                console = self.console_path.read_bytes().decode(errors="replace")[-4000:]
                error = self.child.stderr.read().decode(errors="replace") if ended else ""
                raise Failure(f"{failed or 'the machine ' + ('ended' if ended else 'hangs')}\n"
                              f"{console}\n{error}")
            time.sleep(0.02)

    def cut(self):
        """The power goes."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.child.stderr.close()


def acknowledged(lines):
    """Ids of the complete reports."""
    for line in lines:
        said = re.fullmatch(r"ACK (\S+) (\d+) (\d+)", line)
        if said:
            first = int(said[2])
            yield from (f"{said[1]}-{number}" for number in range(first, first + int(said[3])))


def load_cycle(options, scratch, boot, image, cycle, rng):
    """One life under load; returns the ids that were acknowledged, and what the cut cost."""
    log = scratch / "writes.log"
    log.unlink(missing_ok=True)
    with open(log, "wb") as made:
        made.truncate(0)
    copy = scratch / "running.img"
    run("cp", "--sparse=always", image, copy)
    drive = ["-blockdev", f"driver=file,node-name=base,filename={copy},cache.direct=off",
             "-blockdev", f"driver=file,node-name=log,filename={log}",
             "-blockdev", "driver=blklogwrites,node-name=disk,file=base,log=log"]
    with Machine(scratch, boot, drive, f"power=load cycle={cycle}") as machine:
        machine.wait(options.boot_seconds, lambda lines: "READY" in lines)
        machine.wait(options.boot_seconds,
                     lambda lines: any(one.startswith("ACK") for one in lines))
        moments = []
        end = time.monotonic() + options.seconds_max
        while not moments or time.monotonic() < end:
            # In this order: what was acknowledged was flushed, so the log has it.
            lines = machine.report()
            moments.append((lines, log.stat().st_size))
            time.sleep(0.01)
        machine.cut()
    lines, logged = rng.choice(moments)
    kept, dice = disk_log.cut(image, log, logged, rng)
    return list(acknowledged(lines)), kept, dice


def drain(options, scratch, boot, image):
    """Delivers what is in the spool; the rows' ids and the ledger."""
    drive = ["-blockdev", f"driver=file,node-name=disk,filename={image}"]
    with Machine(scratch, boot, drive, "power=drain cycle=0") as machine:
        lines = machine.wait(options.boot_seconds + DRAIN_SECONDS,
                             lambda lines: "DONE" in lines)
    ledger = [line for line in lines if line.startswith("LEDGER ")]
    return [line[4:] for line in lines if line.startswith("ROW ")], ledger[-1][7:]


def work(options, scratch):
    """All cycles and the verdict."""
    build = os.environ.get("RELAYTEST_BUILD") or sys.exit("RELAYTEST_BUILD is not set")
    rng = random.Random(options.seed)
    boot = (*make_initramfs(scratch, build), "kvm" if options.kvm else "tcg,thread=multi")
    image = scratch / "disk.img"
    with open(image, "wb") as disk:
        disk.truncate(DISK_MIB << 20)
    run("mkfs.ext4", "-q", "-F", image)
    promised = []
    for cycle in range(1, options.cycles + 1):
        ids, kept, dice = load_cycle(options, scratch, boot, image, cycle, rng)
        promised += ids
        print(f"cycle {cycle}: {len(ids)} events acknowledged; of the disk's writes {kept} were "
              f"flushed, {dice} left to the dice", flush=True)
    rows, ledger = drain(options, scratch, boot, image)
    distinct = set(rows)
    missing = [one for one in promised if one not in distinct]
    print(f"ledger of the last machine: {ledger}")
    if missing:
        raise Failure(f"{len(missing)} acknowledged events are missing, such as {missing[:5]}")
    if len(distinct) != len(rows):
        raise Failure(f"{len(rows) - len(distinct)} rows came twice")
    print(f"PASS: {options.cycles} power cuts, {len(promised)} events acknowledged, each of them "
          f"one row of {len(rows)}")


def main():
    """0, or 1 with the reason."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=5, help="power cuts")
    parser.add_argument("--seed", type=int, default=1, help="of the dice and of the moments")
    parser.add_argument("--seconds-max", type=float, default=4.0, help="of load before a cut")
    parser.add_argument("--boot-seconds", type=float, default=120.0,
                        help="a machine may take; more where this one is busy")
    parser.add_argument("--kvm", action="store_true",
                        help="not emulated: ten times faster, where /dev/kvm works")
    parser.add_argument("--keep", action="store_true", help="leave disk and logs there")
    options = parser.parse_args()
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        print(f"power_cut: not installed: {', '.join(absent)}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the machine ends too
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="opsrelay-power-"))
    try:
        work(options, scratch)
        return 0
    except Failure as failure:
        print(f"FAIL (seed {options.seed}): {failure}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    sys.exit(main())
