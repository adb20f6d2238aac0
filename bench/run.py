#!/usr/bin/env python3
"""Measures the daemon from socket to upstream, against a loop that only receives and syncs.

One run, in this order, everything in a new directory on one file system:

  bare     the same events through bare_loop, as they are and with LZ4
  durable  N distinct events through the acked stream socket, the upstream down
  bare     once more: disks change their mind, so the daemon is compared with the mean of both
  restart  kill -9, start again, ready with N records in the spool
  deliver  the upstream up: until the spool is empty; then every row is compared with what was sent
  paced    with the upstream up, one event per write at a steady rate

Exit code 1 when an event is missing, came twice, or a ledger does not balance. The programs come
from the build directory RELAYTEST_BUILD.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))
import harness  # noqa: E402
from harness import Process, Relay, StreamClient, Upstream, wait_for  # noqa: E402

CHUNK_EVENTS = 800  # per write: about 256 KiB, so that the sender costs little beside the receiver
STALLED = 120.0  # seconds without progress after which a run is given up
TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something is wrong with what came out; the text says what."""


# --- Events ---------------------------------------------------------------------------------------

TEMPLATE = (
    '{"externalRequestId":"%s","provider":"openai","model":"gpt-4o-mini",'
    '"promptVersion":"ticket_triage_v7","userId":"us_%d","inputTokens":%d,"outputTokens":%d,'
    '"totalTokens":%d,"latencyMs":%d,'
    '"status":"success","dataMode":"real","environment":"prod",'
    '"createdAt":"2026-03-14T09:26:%02d.%03dZ"}\n')


def make_ids(count, seed):
    """The ids of a run, in order: the same for the same seed."""
    bits = random.Random(f"ids {seed}").getrandbits
    for _ in range(count):
        text = f"{bits(128):032x}"
        yield f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{text[16:20]}-{text[20:]}"


def make_lines(count, seed):
    """Events of about 330 bytes, each with its newline; ids, users, counts and times differ."""
    rng = random.Random(f"events {seed}").random
    for event_id in make_ids(count, seed):
        tokens_in, tokens_out = 20 + int(rng() * 4000), 5 + int(rng() * 900)
        yield TEMPLATE % (
            event_id, 1e8 + rng() * 9e8, tokens_in, tokens_out,
            tokens_in + tokens_out, 80 + rng() * 9000, rng() * 60, rng() * 1000)


def make_chunks(count, seed):
    """All lines as a list of bytes, CHUNK_EVENTS lines each."""
    chunks, lines = [], []
    for text in make_lines(count, seed):
        lines.append(text)
        if len(lines) == CHUNK_EVENTS:
            chunks.append("".join(lines).encode())
            lines.clear()
    if lines:
        chunks.append("".join(lines).encode())
    return chunks


# --- Observation ----------------------------------------------------------------------------------

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
    """User and system time of a process so far, all threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def table(path):
    """A file of "key: number [unit]" lines as a dict."""
    with open(path, encoding="ascii", errors="replace") as file:
        pairs = (text.partition(":") for text in file)
        return {key: int(value.split()[0]) for key, _, value in pairs
                if value.split() and value.split()[0].isdigit()}


def memory_mib(pid):
    """(resident now, highest so far) of a process in MiB."""
    status = table(f"/proc/{pid}/status")
    return status["VmRSS"] / 1024, status["VmHWM"] / 1024


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


class Usage:
    """What a process used since this was made."""

    def __init__(self, process):
        self.pid = process.pid
        self.start = (time.monotonic(), cpu_seconds(self.pid), written_bytes(self.pid))

    def since(self):
        """(seconds, CPU seconds, bytes written)."""
        now = (time.monotonic(), cpu_seconds(self.pid), written_bytes(self.pid))
        return tuple(b - a for a, b in zip(self.start, now))


# --- Phases ---------------------------------------------------------------------------------------

def send_fast(path, chunks, count, progress, name):
    """Sends everything as fast as it is taken; the longest time without an ack. Ends when the last
    event is durable."""
    client = StreamClient(path)
    with client, concurrent.futures.ThreadPoolExecutor(1) as pool:

        def send():
            for chunk in chunks:
                client.send(chunk)

        sending = pool.submit(send)
        longest, last = 0.0, time.monotonic()
        try:
            while client.durable + client.rejected < count:
                if not client.read_ack():
                    raise Failure(f"{name}: closed after {client.durable} of {count} acks")
                now = time.monotonic()
                longest, last = max(longest, now - last), now
                progress.show(f"{name}: {client.durable} of {count} durable")
        except BaseException:
            client.socket.shutdown(2)  # so that the sender ends too
            raise
        sending.result()
    if client.rejected:
        raise Failure(f"{name}: {client.rejected} events rejected")
    return longest


def run_bare(directory, program, chunks, count, progress, lz4):
    """The bare loop with the same sender: (seconds, CPU seconds, bytes written)."""
    name = "bare_lz4" if lz4 else "bare"
    path, file = os.path.join(directory, name + ".sock"), os.path.join(directory, name)
    arguments = [program, path, file, *(["--lz4"] if lz4 else [])]
    loop = Process(arguments, os.path.join(directory, name + ".log"))
    try:
        wait_for(lambda: "listening" in loop.log() or not loop.running(), f"{name} listens")
        if not loop.running():
            raise Failure(f"{name} ended: {loop.log()}")
        usage = Usage(loop)
        send_fast(path, chunks, count, progress, name)
        used = usage.since()
        if loop.wait() != 0:
            raise Failure(f"{name} failed: {loop.log()}")
    finally:
        loop.kill()
        for left in (path, file, loop.log_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
    return used


def bare_figures(name, before, after, count, raw):
    """What the two runs of a bare loop, around the daemon's, say."""
    seconds, cpu, written = (a + b for a, b in zip(before, after))
    return {f"{name}_events_per_s": 2 * count / seconds,
            f"{name}_before_events_per_s": count / before[0],
            f"{name}_after_events_per_s": count / after[0],
            f"{name}_cpu_us_per_event": cpu / (2 * count) * 1e6,
            f"{name}_written_per_raw": written / (2 * raw)}


def measure_durable(relay, chunks, count, progress):
    """The stream to durable, with the upstream down."""
    idle, _ = memory_mib(relay.pid)
    usage = Usage(relay)
    gap = send_fast(relay.path("telemetry.stream.sock"), chunks, count, progress, "durable")
    seconds, cpu, written = usage.since()
    ledger = balanced(relay)
    if (ledger["accepted"], ledger["spooled"], ledger["pending"]) != (count, count, 0):
        raise Failure(f"durable: not everything is spooled: {ledger}")
    raw = sum(map(len, chunks))
    resident, peak = memory_mib(relay.pid)
    return {
        "durable_events_per_s": count / seconds,
        "durable_mb_per_s": raw / seconds / 1e6,
        "durable_cpu_us_per_event": cpu / count * 1e6,
        "durable_longest_ack_gap_ms": gap * 1e3,
        "durable_written_per_raw": written / raw,
        "spool_disk_mib": disk_bytes(relay.spool_dir) / 2**20,
        "spool_disk_per_raw": disk_bytes(relay.spool_dir) / raw,
        "rss_idle_empty_mib": idle,
        "rss_after_durable_mib": resident,
        "rss_peak_durable_mib": peak,
    }


def measure_restart(relay, count):
    """kill -9 with everything in the spool, then until /readyz says 200."""
    relay.kill()
    start = time.monotonic()
    relay.start(ready=False)
    while not relay.ready():
        if not relay.running():
            raise Failure("restart: opsrelay ended: " + relay.log()[-4000:])
        if time.monotonic() - start > STALLED:
            raise Failure("restart: not ready")
        time.sleep(0.001)
    seconds = time.monotonic() - start
    ledger = balanced(relay)
    if (ledger["recovered"], ledger["spooled"]) != (count, count):
        raise Failure(f"restart: not everything was recovered: {ledger}")
    return {"restart_ready_ms": seconds * 1e3, "rss_after_restart_mib": memory_mib(relay.pid)[0]}


def wait_delivered(relay, count, progress):
    """Waits until the spool is empty. (time of the first delivery, longest time without one)."""
    first, longest, seen, last = None, 0.0, 0, time.monotonic()
    while True:
        ledger = relay.ledger()
        now = time.monotonic()
        if ledger["delivered"] > seen:
            if first is None:
                first = now
            else:
                longest = max(longest, now - last)
            seen, last = ledger["delivered"], now
        progress.show(f"deliver: {seen} of {count} delivered")
        if ledger["spooled"] == 0 and ledger["pending"] == 0:
            return first or now, longest
        if now - last > STALLED:
            raise Failure(f"deliver: no progress for {STALLED:.0f} s: {ledger} {relay.lane()}")
        time.sleep(0.05)


def measure_delivery(relay, upstream, count, raw, progress):
    """The upstream comes back; until the spool is empty."""
    usage = Usage(relay)
    upstream_cpu = cpu_seconds(upstream.pid)
    upstream.control(down=False)
    first, longest = wait_delivered(relay, count, progress)
    seconds, cpu, written = usage.since()
    waited = first - usage.start[0]
    upstream_cpu = cpu_seconds(upstream.pid) - upstream_cpu
    peak = memory_mib(relay.pid)[1]
    return {
        "deliver_events_per_s": count / max(seconds - waited, 1e-9),
        "deliver_first_after_ms": waited * 1e3,
        "deliver_longest_gap_ms": longest * 1e3,
        "deliver_cpu_us_per_event": cpu / count * 1e6,
        "deliver_upstream_cpu_us_per_event": upstream_cpu / count * 1e6,
        "deliver_written_per_raw": written / raw,
        "spool_disk_after_mib": disk_bytes(relay.spool_dir) / 2**20,
        "rss_peak_deliver_mib": peak,
    }


def verify(relay, upstream, expected, count):
    """Each id is one row, nothing else is, and the books balance."""
    ledger = balanced(relay)
    if ledger["delivered"] != count or ledger["dead"] or ledger["dropped"]:
        raise Failure(f"verify: not everything was delivered: {ledger}")
    rows = upstream.row_ids()
    distinct = set(rows)
    missing = sum(1 for event_id in expected if event_id not in distinct)
    stats = upstream.stats()
    if missing or len(rows) != count or len(distinct) != count:
        raise Failure(f"verify: {count} events, {len(rows)} rows, {len(distinct)} distinct, "
                      f"{missing} missing; {stats}")
    return {"rows": len(rows), "missing": missing, "requests_repeated": stats["repeated"],
            "ledger_imbalance": ledger["imbalance"]}


def balanced(relay):
    """The ledger, which must balance."""
    ledger = relay.ledger()
    if ledger["imbalance"] != 0:
        raise Failure(f"the ledger does not balance: {ledger}")
    return ledger


def send_paced(path, lines, rate):
    """One event per write at a steady rate; seconds from each write to the ack that covers it."""
    latencies, sent_at = [], collections.deque()
    client = StreamClient(path)

    def send():
        start = time.monotonic()
        for number, data in enumerate(lines):
            wait = start + number / rate - time.monotonic()
            if wait > 0.0005:
                time.sleep(wait)
            sent_at.append(time.monotonic())
            client.send(data)

    sender = threading.Thread(target=send, daemon=True)
    with client:
        sender.start()
        settled = 0
        while settled < len(lines):
            if not client.read_ack():
                raise Failure(f"paced: closed after {settled} of {len(lines)} acks")
            now = time.monotonic()
            latencies.extend(now - sent_at.popleft() for _ in range(client.durable - settled))
            settled = client.durable
        sender.join()
    return latencies


def measure_paced(relay, rate, seconds, seed, progress):
    """A steady load with a healthy upstream: the whole path, one event per write."""
    count = int(rate * seconds)
    lines = [text.encode() for text in make_lines(count, f"{seed} paced")]
    progress.show(f"paced: {rate} events/s for {seconds} s")
    time.sleep(0.5)  # let the phase before come to rest
    usage = Usage(relay)
    latencies = send_paced(relay.path("telemetry.stream.sock"), lines, rate)
    sending = time.monotonic() - usage.start[0]
    wait_delivered(relay, count, progress)
    _, cpu, written = usage.since()
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "paced_events_per_s": count / sending,
        "paced_cpu_us_per_event": cpu / count * 1e6,
        "paced_written_per_raw": written / sum(map(len, lines)),
        "paced_durable_p50_ms": cuts[49] * 1e3,
        "paced_durable_p99_ms": cuts[98] * 1e3,
        "rss_after_paced_mib": memory_mib(relay.pid)[0],
    }


# --- A run and its report -------------------------------------------------------------------------

def run_once(options, directory, chunks, progress):
    """All phases once; the figures by name."""
    count, raw = options.events, sum(map(len, chunks))
    figures = {"raw_bytes_per_event": raw / count}

    def bare(lz4):
        return run_bare(directory, options.bare_loop, chunks, count, progress, lz4)

    before = {"bare": bare(False), "bare_lz4": bare(True)}
    upstream = Upstream(directory, "--ids-only")
    processes = [upstream]
    try:
        upstream.control(down=True)
        relay = Relay(directory, upstream.url, config=f"spool: {{max_bytes: {options.spool}}}\n")
        processes.append(relay)
        figures.update(measure_durable(relay, chunks, count, progress))
        after = {"bare_lz4": bare(True), "bare": bare(False)}
        for name, used in before.items():
            figures.update(bare_figures(name, used, after[name], count, raw))
            figures[f"durable_to_{name}"] = (
                figures["durable_events_per_s"] / figures[f"{name}_events_per_s"])
        figures.update(measure_restart(relay, count))
        figures.update(measure_delivery(relay, upstream, count, raw, progress))
        figures.update(verify(relay, upstream, make_ids(count, options.seed), count))
        figures["rss_after_deliver_mib"] = memory_mib(relay.pid)[0]
        if options.paced_seconds > 0:
            figures.update(measure_paced(relay, options.paced_rate, options.paced_seconds,
                                         options.seed, progress))
            balanced(relay)
        if relay.end() != 0:
            raise Failure("opsrelay did not end with 0: " + relay.log()[-2000:])
    except (Failure, AssertionError):
        progress.clear()
        for process in processes:
            print(f"--- {process.log_path} ---\n{process.log()[-4000:]}", file=sys.stderr)
        raise
    finally:
        for process in processes:
            process.kill()
    return figures


def summary(runs):
    """Median, least and greatest of every figure."""
    return {name: {"median": statistics.median(run[name] for run in runs),
                   "min": min(run[name] for run in runs), "max": max(run[name] for run in runs)}
            for name in runs[0]}


def number(value):
    """Three or more digits that matter."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def print_table(result):
    """The figures as text."""
    print(f"{result['events']} events, {result['runs']} runs, spool on {result['file_system']}, "
          f"{result['cpus']} CPUs")
    print(f"{'':36}{'median':>12}{'least':>12}{'greatest':>12}")
    for name, row in result["figures"].items():
        print(f"{name:36}" + "".join(f"{number(row[key]):>12}" for key in ("median", "min", "max")))


def parse_options(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="distinct events of a run")
    parser.add_argument("--runs", type=int, default=1, help="repetitions, for median and spread")
    parser.add_argument("--seed", type=int, default=1, help="of ids and contents")
    parser.add_argument("--paced-rate", type=int, default=5000, help="events/s of the last phase")
    parser.add_argument("--paced-seconds", type=float, default=5, help="0: no such phase")
    parser.add_argument("--spool", default="2GiB", help="spool.max_bytes, above what N events take")
    parser.add_argument("--directory", help="where the spool goes; default: temporary")
    parser.add_argument("--bare-loop", default=os.path.join(harness.BUILD, "bench", "bare_loop"))
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--smoke", action="store_true", help="2,000 events: does it work at all")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.events, options.runs = 2000, 1
        options.paced_rate, options.paced_seconds = 1000, 0.2
    if options.events < 1 or options.runs < 1:
        parser.error("--events and --runs must be at least 1")
    if options.paced_seconds > 0 and options.paced_rate * options.paced_seconds < 100:
        parser.error("--paced-rate times --paced-seconds must be at least 100 events")
    for program in (harness.RELAY, harness.UPSTREAM, options.bare_loop):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is not there; build it and set RELAYTEST_BUILD")
    return options


def main(arguments=None):
    """Runs everything; 0, or 1 with the reason."""
    options = parse_options(arguments)
    progress = Progress()
    progress.show(f"making {options.events} events")
    chunks = make_chunks(options.events, options.seed)
    runs = []
    try:
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(prefix="opsrelay-bench-",
                                             dir=options.directory) as directory:
                kind = file_system(directory)
                runs.append(run_once(options, directory, chunks, progress))
    except (Failure, AssertionError, OSError) as error:
        print(f"FAIL: {error}", file=sys.stderr)
        return 1
    finally:
        progress.clear()
    result = {"events": options.events, "runs": options.runs, "seed": options.seed,
              "file_system": kind, "cpus": os.cpu_count(), "figures": summary(runs), "each": runs}
    if options.output == "json":
        print(json.dumps(result, indent=2))
    else:
        print_table(result)
        print(f"PASS: {options.events} distinct events, one row each, nothing missing, "
              "every ledger balanced")
    return 0


if __name__ == "__main__":
    sys.exit(main())
