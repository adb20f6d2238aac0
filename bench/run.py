#!/usr/bin/env python3
"""Measures the daemon from socket to upstream, beside loops that only receive and sync.

Phases (all by default), each with a daemon and a spool of its own:

  idle      nobody uses it: resident size, CPU; with a release build also that one's size
  stream    N events through the acked stream, the upstream down; kill -9 and start; the upstream
            up until the spool is empty; then every row is compared with what was sent
  datagram  the same number / 4, one event a datagram; both between runs of the bare loops
  udp, http reception over those sockets
  drain     the spool alone: read, decompress, acknowledge
  batch     a backlog in batches of 500 events: as it is, gzip, zstd
  pipelined a backlog by single POSTs, 1 and 16 of them at a time on a connection: near, and 50 ms away
  goodput   a backlog to an upstream 50 ms away that fails one request in a hundred
  paced     10,000 events/s and 1 MiB/s, one event a write
  app       what a sender of non-blocking datagrams feels, with a stalled disk too
  damaged   starts with a full spool of 512 MiB that is damaged in one way after the other
  peers     rsyslog and syslog-ng with durable queues, where they are installed

Exit code 1 when an event is missing, came twice, or a ledger does not balance. The programs come
from the build directory RELAYTEST_BUILD.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))
import batch  # noqa: E402
import damage  # noqa: E402
import goodput  # noqa: E402
import harness  # noqa: E402
import peers  # noqa: E402
import phases  # noqa: E402
import pipelined  # noqa: E402
import report  # noqa: E402
from faults import SHIM  # noqa: E402
from observe import Failure, Progress, file_system, machine  # noqa: E402
from programs import built  # noqa: E402

PHASES = ("idle", "stream", "datagram", "udp", "http", "drain", "batch", "pipelined", "goodput",
          "paced", "app", "damaged", "peers")


def drain(options, directory, progress):
    """The spool's own benchmark, once."""
    progress.show("drain")
    said = subprocess.run(
        [built("drain_bench"), "--benchmark_format=json",
         f"--benchmark_filter=/{drain_events(options)}/"],
        env={**os.environ, "TMPDIR": directory}, check=True, capture_output=True, text=True)
    one = json.loads(said.stdout)["benchmarks"][0]
    if one.get("error_occurred"):
        raise Failure(f"drain_bench: {one['error_message']}")
    return {"drain_events_per_s": one["items_per_second"],
            "drain_cpu_us": 1e6 / one["items_per_second"] * one["cpu_time"] / one["real_time"]}


def drain_events(options):
    """The sizes that drain_bench has."""
    return 1_000_000 if options.events >= 1_000_000 else 20_000


def idle(options, directory, progress):
    """This build and, where there is one, the one that is shipped."""
    figures = phases.idle(options, directory, progress)
    if not os.access(options.release, os.X_OK):
        return figures
    stripped = os.path.join(directory, "stripped")
    subprocess.run(["strip", "-o", stripped, options.release], check=True)
    figures["release_stripped_mb"] = os.stat(stripped).st_size / 1e6
    with phases.program(stripped):
        shipped = phases.idle(options, directory, progress)
    os.unlink(stripped)
    return figures | {f"release_{name}": value for name, value in shipped.items()}


RUN = {"idle": idle, "stream": phases.stream, "datagram": phases.datagram, "udp": phases.udp,
       "http": phases.http, "drain": drain, "batch": batch.batch, "goodput": goodput.goodput,
       "pipelined": pipelined.pipelined,
       "paced": phases.paced, "app": phases.app_side, "damaged": damage.damaged, "large": phases.large}


def commit():
    """The commit of the working tree; "+" when it has changes."""
    def git(*arguments):
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True,
                              check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    name = git("rev-parse", "--short", "HEAD")
    return (name + ("+" if git("status", "--porcelain") else "")) or "unknown"


def run_once(options, directory, progress):
    """The phases once; the figures by name, and the peers' table."""
    figures, beside = {}, []
    for name in options.phases:
        if name == "peers":
            beside = peers.run(options, directory, progress)
        else:
            figures |= RUN[name](options, directory, progress)
    return report.complete(figures), beside


def parse_options(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="distinct events of a run")
    parser.add_argument("--runs", type=int, default=1, help="repetitions, for median and spread")
    parser.add_argument("--phases", help="which, with commas; default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events, short waits")
    parser.add_argument("--smoke", action="store_true", help="2,000 events: does it work at all")
    parser.add_argument("--ids", type=int, help="only: that many ids (with --backlog)")
    parser.add_argument("--backlog", type=int, help="only: that many records (with --ids)")
    parser.add_argument("--seed", type=int, default=1, help="of ids and contents")
    parser.add_argument("--spool", default="4GiB", help="spool.max_bytes, above what N events take")
    parser.add_argument("--directory", help="where the spool goes; default: temporary")
    parser.add_argument("--release", default=os.path.join(ROOT, "build/release/daemon/opsrelay"),
                        help="the daemon of the release preset, if built")
    parser.add_argument("--syslog-ng", help="the syslog-ng to compare with; default: from PATH")
    parser.add_argument("--needs", nargs="*", default=[], help="programs that must be there")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    options.idle_seconds, options.paced_rate, options.paced_seconds = 5, 10_000, 5
    options.steady_seconds, options.app_seconds, options.udp_rate = 20, 2, 50_000
    options.goodput_events = 3200
    if options.quick:
        options.events = min(options.events, 100_000)
        options.idle_seconds, options.paced_seconds, options.steady_seconds = 1, 2, 3
        options.goodput_events = 1600
    if options.smoke:
        options.events, options.runs = 2000, 1
        options.idle_seconds, options.paced_rate, options.paced_seconds = 0.2, 1000, 0.2
        options.steady_seconds, options.app_seconds, options.udp_rate = 0.2, 1, 5000
        options.goodput_events = 400
    if options.events < 1000 or options.runs < 1:
        parser.error("--events must be at least 1000, --runs at least 1")
    if (options.ids is None) != (options.backlog is None):
        parser.error("--ids and --backlog go together")
    if options.phases:
        options.phases = options.phases.split(",")
    elif options.ids:
        options.phases = ["large"]
    else:  # other people's programs are no part of a test
        options.phases = [name for name in PHASES if not (options.smoke and name == "peers")]
    for name in options.phases:
        if name not in PHASES and not (name == "large" and options.ids):
            parser.error(f"no phase \"{name}\"; there are {', '.join(PHASES)}")
    for program in (harness.RELAY, harness.UPSTREAM, built("load"), built("bare_loop"),
                    built("drain_bench"), SHIM, *options.needs):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is not there; build it and set RELAYTEST_BUILD")
    return options


def main(arguments=None):
    """Runs everything; 0, or 1 with the reason."""
    options = parse_options(arguments)
    progress = Progress()
    about = {"commit": commit(), "machine": machine()}
    runs, beside = [], []
    try:
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(prefix="opsrelay-bench-",
                                             dir=options.directory) as directory:
                about["file_system"] = file_system(directory)
                figures, compared = run_once(options, directory, progress)
                runs.append(figures)
                beside = compared or beside
    except (Failure, AssertionError, OSError, subprocess.CalledProcessError) as error:
        progress.clear()
        print(f"FAIL: {error}", file=sys.stderr)
        return 1
    progress.clear()
    result = about | {"events": options.backlog or options.events, "runs": options.runs,
                      "seed": options.seed, "phases": options.phases,
                      "figures": report.summary(runs), "peers": beside, "each": runs}
    if options.output == "json":
        print(json.dumps(result, indent=2))
        return 0
    report.print_table(result)
    peers.print_table(beside)
    if "stream" in options.phases:
        print(f"\nPASS: {options.events} distinct events, one row each, every ledger balanced")
    return 0


if __name__ == "__main__":
    sys.exit(main())
