"""The phases of a run of the daemon. Each takes a Scene and returns its figures by name."""

import contextlib
import os
import time

import harness
from faults import Fault, Faults
from harness import Relay, Upstream
from observe import (Failure, Usage, disk_bytes, memory_mib, reset_peak, thread_seconds)
from programs import STREAM_EVENTS_PER_WRITE, BareLoops, Load, ids_of, load

STALLED = 120.0  # seconds without progress after which a run is given up
MIB_PER_SECOND_EVENTS = 2**20 // 332  # events/s that make 1 MiB/s


class Scene:
    """A directory with an upstream and a daemon; both end with it."""

    def __init__(self, options, directory, progress, *, up, environment=None, config="", way=None):
        """`way` says where the daemon finds the upstream, unless it asks there itself."""
        self.options, self.progress = options, progress
        self.directory = os.path.join(directory, f"scene-{time.monotonic_ns()}")
        os.makedirs(self.directory)
        self.upstream = Upstream(self.directory, "--ids-only")
        self.processes = [self.upstream]
        self.relay = None
        try:
            self.upstream.control(down=not up)
            url = way.url(self.upstream.url) if way else self.upstream.url
            self.relay = Relay(self.directory, url, environment=environment,
                               config=f"spool: {{max_bytes: {options.spool}}}\n{config}")
            self.processes.append(self.relay)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind=None, *_):
        if kind is None and self.relay and self.relay.running() and self.relay.end() != 0:
            kind = Failure
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self.progress.clear()
            for process in self.processes:
                print(f"--- {process.log_path} ---\n{process.log()[-4000:]}")
        for process in self.processes:
            process.kill()
        if kind is Failure:
            raise Failure("opsrelay did not end with 0")

    def path(self, name):
        return self.relay.path(name)

    def wait_ledger(self, what, reached, look_every=0.02):
        """Polls the ledger until `reached(ledger)`; it must balance then."""
        last, seen = time.monotonic(), None
        while True:
            ledger = self.relay.ledger()
            if reached(ledger):
                if ledger["imbalance"] != 0:
                    raise Failure(f"{what}: the ledger does not balance: {ledger}")
                return ledger
            moved = (ledger["received"], ledger["delivered"], ledger["spooled"])
            if moved != seen:
                last, seen = time.monotonic(), moved
            if time.monotonic() - last > STALLED:
                raise Failure(f"{what}: no progress for {STALLED:.0f} s: {ledger}")
            if not self.relay.running():
                raise Failure(f"{what}: opsrelay ended")
            time.sleep(look_every)

    def wait_taken(self, what, count):
        """Until `count` more events than before were decided upon and are durable."""
        return self.wait_ledger(
            what, lambda now: now["received"] >= count and now["pending"] == 0, 0.005)

    def wait_delivered(self, what):
        # Seldom: every look is a request to the daemon that is measured.
        return self.wait_ledger(
            what, lambda now: now["spooled"] == 0 and now["pending"] == 0, 0.1)


def per_event(usage, count):
    """(CPU us an event, by thread). The daemon's threads live as long as it does."""
    threads = {name: seconds / count * 1e6 for name, seconds in usage.threads().items()}
    return sum(threads.values()), {name: threads.get(name, 0.0)
                                   for name in ("ingest", "storage", "forward")}


def cpu_figures(prefix, usage, count):
    """CPU of the process and of its three threads, us an event."""
    cpu, threads = per_event(usage, count)
    return {f"{prefix}_cpu_us": cpu,
            **{f"{prefix}_{name}_cpu_us": value for name, value in threads.items()}}


def idle(options, directory, progress):
    """A daemon that nobody uses: resident size, and CPU of some seconds."""
    with Scene(options, directory, progress, up=True) as scene:
        progress.show("idle")
        time.sleep(1)  # until the start is over
        before = sum(thread_seconds(scene.relay.pid).values())
        begin = time.monotonic()
        time.sleep(options.idle_seconds)
        cpu = sum(thread_seconds(scene.relay.pid).values()) - before
        resident, _, anonymous = memory_mib(scene.relay.pid)
        return {"idle_rss_mib": resident, "idle_anonymous_mib": anonymous,
                "idle_cpu_us_per_s": cpu / (time.monotonic() - begin) * 1e6}


def stream(options, directory, progress):
    """The stream to durable with the upstream down, kill -9, delivery, every row compared."""
    count = options.events
    loops = BareLoops("stream", directory, count, options.seed)
    progress.show("stream: bare loops")
    loops.run()
    with Scene(options, directory, progress, up=False) as scene:
        figures = stream_durable(scene, count)
        progress.show("stream: bare loops again")
        loops.run()
        figures |= loops.figures(figures["stream_events_per_s"])
        figures |= restart(scene, count)
        figures |= deliver(scene, count)
        verify(scene, count)
        return figures


def stream_durable(scene, count):
    """Sends everything; what was used until the last event was durable."""
    scene.progress.show("stream: to durable")
    relay, seed = scene.relay, scene.options.seed
    usage = Usage(relay)
    said = load("stream", scene.path("telemetry.stream.sock"), events=count, seed=seed,
                per_write=STREAM_EVENTS_PER_WRITE)
    _, _, written = usage.since()
    figures = cpu_figures("stream", usage, count)
    ledger = scene.wait_taken("stream", count)
    if (ledger["accepted"], ledger["spooled"]) != (count, count):
        raise Failure(f"stream: not everything is spooled: {ledger}")
    resident, peak, _ = memory_mib(relay.pid)
    return figures | {
        "stream_events_per_s": count / said["seconds"],
        "stream_longest_ack_gap_ms": said["longest_gap_us"] / 1e3,
        "outage_written_per_raw": written / said["raw_bytes"],
        "spool_per_raw": disk_bytes(relay.spool_dir) / said["raw_bytes"],
        "stream_rss_mib": resident, "stream_rss_peak_mib": peak}


def restart(scene, count):
    """kill -9 with everything in the spool, then until /readyz says 200."""
    scene.progress.show("restart")
    relay = scene.relay
    relay.kill()
    start = time.monotonic()
    relay.start(ready=False)
    while not relay.ready():
        if not relay.running() or time.monotonic() - start > STALLED:
            raise Failure("restart: not ready")
        time.sleep(0.001)
    seconds = time.monotonic() - start
    ledger = relay.ledger()
    if (ledger["recovered"], ledger["spooled"], ledger["imbalance"]) != (count, count, 0):
        raise Failure(f"restart: not everything was recovered: {ledger}")
    return {"restart_ready_ms": seconds * 1e3, "restart_rss_mib": memory_mib(relay.pid)[0]}


def deliver(scene, count):
    """The upstream comes back; until the spool is empty."""
    scene.progress.show("deliver")
    relay, upstream = scene.relay, scene.upstream
    usage, theirs = Usage(relay), Usage(upstream)
    upstream.control(down=False)
    scene.wait_ledger("deliver", lambda now: now["delivered"] > 0, 0.005)
    first = time.monotonic()
    scene.wait_delivered("deliver")
    figures = cpu_figures("deliver", usage, count)
    return figures | {
        "deliver_events_per_s": count / (time.monotonic() - first),
        "deliver_upstream_cpu_us": theirs.since()[1] / count * 1e6,
        "deliver_rss_peak_mib": memory_mib(relay.pid)[1],
        "deliver_spool_after_mib": disk_bytes(relay.spool_dir) / 2**20}


def verify(scene, count):
    """Each id is one row and nothing else is."""
    ledger = scene.relay.ledger()
    if ledger["delivered"] != count or ledger["dead"] or ledger["dropped"]:
        raise Failure(f"verify: not everything was delivered: {ledger}")
    rows = scene.upstream.row_ids()
    distinct = set(rows)
    missing = sum(1 for one in ids_of(scene.options.seed, count) if one not in distinct)
    if missing or len(rows) != count or len(distinct) != count:
        raise Failure(f"verify: {count} events, {len(rows)} rows, {len(distinct)} distinct, "
                      f"{missing} missing; {scene.upstream.stats()}")


def datagram(options, directory, progress):
    """One event a datagram, as fast as they are taken, with the upstream down."""
    count = max(options.events // 4, 1000)
    loops = BareLoops("datagram", directory, count, options.seed)
    progress.show("datagram: bare loops")
    loops.run()
    with Scene(options, directory, progress, up=False) as scene:
        progress.show("datagram: to durable")
        usage, begin = Usage(scene.relay), time.monotonic()
        said = load("datagram", scene.path("telemetry.sock"), events=count, seed=options.seed)
        ledger = scene.wait_taken("datagram", count)
        seconds = time.monotonic() - begin
        if ledger["accepted"] != count:
            raise Failure(f"datagram: not everything was accepted: {ledger}")
        figures = cpu_figures("datagram", usage, count)
        figures |= {"datagram_events_per_s": count / seconds,
                    "datagram_written_per_raw": usage.since()[2] / said["raw_bytes"]}
    progress.show("datagram: bare loops again")
    loops.run()
    return figures | loops.figures(figures["datagram_events_per_s"])


def udp(options, directory, progress):
    """One event a datagram at a steady rate; what the kernel dropped."""
    count = max(options.events // 5, 1000)
    with Scene(options, directory, progress, up=False) as scene:
        progress.show("udp")
        usage = Usage(scene.relay)
        load("udp", scene.relay.port("udp"), events=count, seed=options.seed,
             rate=options.udp_rate)
        drops = 0

        def settled(now):
            nonlocal drops
            drops = sum(one["kernel_drops"] for one in scene.relay.status()["listeners"])
            return now["received"] + drops >= count and now["pending"] == 0

        scene.wait_ledger("udp", settled)
        return cpu_figures("udp", usage, count) | {"udp_kernel_drops_per_million":
                                                   drops / count * 1e6}


def http(options, directory, progress):
    """One event a POST over 8 connections, then over 128; each reply follows the commit."""
    count = max(options.events // 20, 2000)
    with Scene(options, directory, progress, up=False) as scene:
        figures = http_part(scene, "http", count, 8)
    with Scene(options, directory, progress, up=False) as scene:
        return figures | http_part(scene, "http_128", count, 128)


def http_part(scene, name, count, connections):
    scene.progress.show(f"http: {connections} connections")
    usage = Usage(scene.relay)
    said = load("http", scene.path("http.sock"), events=count, seed=scene.options.seed,
                connections=connections)
    ledger = scene.wait_taken("http", count)
    if said["refused"] or ledger["accepted"] != count:
        raise Failure(f"http: {said['refused']} refused: {ledger}")
    return cpu_figures(name, usage, count) | {
        f"{name}_events_per_s": count / said["seconds"],
        **{f"{name}_reply_{which}_ms": said[f"reply_{which}_us"] / 1e3
           for which in ("p50", "p99", "p999")}}


def paced(options, directory, progress):
    """10,000 events/s with acks, one event a write: upstream dead, then healthy; then 1 MiB/s."""
    figures = {}
    with Scene(options, directory, progress, up=False) as scene:
        figures |= paced_part(scene, "paced_dead", options.paced_rate, options.paced_seconds)
    with Scene(options, directory, progress, up=True) as scene:
        figures |= paced_part(scene, "paced_healthy", options.paced_rate, options.paced_seconds)
    with Scene(options, directory, progress, up=True) as scene:
        figures |= paced_part(scene, "steady", MIB_PER_SECOND_EVENTS, options.steady_seconds)
    return figures


def paced_part(scene, name, rate, seconds):
    """One steady load: latency to the ack, CPU and bytes of the whole path."""
    scene.progress.show(f"{name}: {rate} events/s for {seconds} s")
    count = int(rate * seconds)
    time.sleep(0.5)
    reset_peak(scene.relay.pid)
    usage = Usage(scene.relay)
    said = load("stream", scene.path("telemetry.stream.sock"), events=count, rate=rate,
                seed=scene.options.seed)
    if "healthy" in name or name == "steady":
        scene.wait_delivered(name)
    _, _, written = usage.since()
    resident, peak, _ = memory_mib(scene.relay.pid)
    return cpu_figures(name, usage, count) | {
        f"{name}_written_per_raw": written / said["raw_bytes"],
        f"{name}_durable_p50_ms": said["ack_p50_us"] / 1e3,
        f"{name}_durable_p99_ms": said["ack_p99_us"] / 1e3,
        f"{name}_rss_mib": resident, f"{name}_rss_peak_mib": peak}


def app_side(options, directory, progress):
    """What a sender feels: non-blocking datagrams at 10,000/s while upstream is healthy, dead, and
    while the disk stalls."""
    figures = {}
    for name, up in (("healthy", True), ("dead", False)):
        with Scene(options, directory, progress, up=up) as scene:
            figures |= app_part(scene, name)
    faults = Faults(directory)
    with Scene(options, directory, progress, up=False,
               environment=faults.environment) as scene:
        faults.begin(Fault("fsync fdatasync", "*", "stall"))
        try:
            figures |= app_part(scene, "stalled")
        finally:
            faults.end()
        ledger = scene.wait_ledger("stalled", lambda now: now["pending"] == 0)
        figures["app_stalled_shed"] = sum(
            value for key, value in ledger.items() if key == "shed")
    return figures


def app_part(scene, name):
    """One sender that never waits."""
    options = scene.options
    # What fits memory.stall_buffer, for the stalled disk; the others as long.
    count = min(int(options.paced_rate * options.app_seconds), 20_000)
    scene.progress.show(f"app side: {name}")
    said = Load("datagram", scene.path("telemetry.sock"), events=count, rate=options.paced_rate,
                seed=options.seed, nonblocking=True).result()
    return {f"app_{name}_send_p50_us": said["send_p50_us"],
            f"app_{name}_send_p99_us": said["send_p99_us"],
            f"app_{name}_refused": said["refused"]}


def large(options, directory, progress):
    """--ids N --backlog M: the last M of N distinct events wait for an upstream that is down."""
    ids, backlog = options.ids, options.backlog
    if ids > backlog:
        raise Failure("--ids above --backlog needs delivery first; give both the same number")
    with Scene(options, directory, progress, up=False) as scene:
        figures = stream_durable(scene, backlog)
        figures = {f"large_{key}": value for key, value in figures.items()}
        figures |= {f"large_{key}": value for key, value in restart(scene, backlog).items()}
        figures["large_ids_remembered"] = remembered(scene)
        # Ids that are remembered, and ids that were never seen: what one more event costs.
        sample = min(200_000, backlog)
        for name, seed, count in (("fresh", options.seed + 1, sample),
                                  ("repeat", options.seed + 1, sample)):
            scene.progress.show(f"large: {name}")
            before = scene.relay.ledger()
            usage = Usage(scene.relay)
            load("stream", scene.path("telemetry.stream.sock"), events=count, seed=seed,
                 per_write=STREAM_EVENTS_PER_WRITE)
            cpu = per_event(usage, count)[0]
            after = scene.relay.ledger()
            wanted = "accepted" if name == "fresh" else "duplicates"
            if after[wanted] - before[wanted] != count:
                raise Failure(f"large: of {count} {name} ids not all are {wanted}: {after}")
            figures[f"large_{name}_cpu_us"] = cpu
        scene.progress.show("large: the oldest once more")
        before = scene.relay.ledger()
        usage = Usage(scene.relay)
        load("stream", scene.path("telemetry.stream.sock"), events=sample, seed=options.seed,
             per_write=STREAM_EVENTS_PER_WRITE)
        after = scene.relay.ledger()
        figures["large_oldest_cpu_us"] = per_event(usage, sample)[0]
        figures["large_oldest_known_per_cent"] = (
            (after["duplicates"] - before["duplicates"]) / sample * 100)
        figures["large_rss_after_mib"], figures["large_rss_peak_after_mib"], _ = memory_mib(
            scene.relay.pid)
        return figures


def remembered(scene):
    """Ids in the dedupe index, from the metrics."""
    text = scene.relay.admin("/metrics")[1]
    for one in text.splitlines():
        if one.startswith("opsrelay_dedupe_ids "):
            return float(one.split()[1])
    raise Failure("no opsrelay_dedupe_ids in the metrics")


@contextlib.contextmanager
def program(path):
    """Another build of the daemon for a while."""
    usual, harness.RELAY = harness.RELAY, path
    try:
        yield
    finally:
        harness.RELAY = usual
