"""rsyslog and syslog-ng with durable queues, and the daemon, in the same steps: the destination is
down, N events come in; kill -9 once nothing moves any more; start again, the destination comes back.

Every peer runs with a configuration, sockets, queues and pid files of its own below a temporary
directory. None of them knows ids or acknowledges, and what they deliver to is a TCP listener that
counts lines, where the daemon makes an HTTP request an event and reads the reply.
"""

import os
import shutil
import subprocess
import time

from harness import Process, wait_for
from observe import Failure, Usage, cpu_seconds, memory_mib
from phases import Scene
from programs import STREAM_EVENTS_PER_WRITE, Sink, load

AT_REST = 0.5  # seconds with hardly any CPU time after which nothing moves any more
WAIT_MAX = 120.0

RSYSLOG = """
global(workDirectory="{dir}/queue" maxMessageSize="64k")
module(load="imptcp")
module(load="imuxsock" SysSock.Use="off")
template(name="raw" type="string" string="%rawmsg%\\n")
ruleset(name="all" queue.type="disk" queue.filename="events" queue.spoolDirectory="{dir}/queue"
        queue.maxDiskSpace="4g" queue.syncQueueFiles="on" queue.checkpointInterval="{checkpoint}"
        queue.saveOnShutdown="on") {{
    action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" template="raw"
           action.resumeRetryCount="-1" action.resumeInterval="1")
}}
input(type="imptcp" path="{dir}/stream.sock" unlink="on" ruleset="all")
input(type="imuxsock" socket="{dir}/datagram.sock" ruleset="all" rateLimit.interval="0"
      useSpecialParser="off" parseHostname="off")
"""

SYSLOG_NG = """@version: 3.38
options {{ log-msg-size(65536); stats-freq(0); }};
source s {{
    unix-stream("{dir}/stream.sock" flags(no-parse));
    unix-dgram("{dir}/datagram.sock" flags(no-parse));
}};
destination d {{
    network("127.0.0.1" port({port}) template("$MSG\\n") time-reopen(1)
        disk-buffer(reliable(yes) disk-buf-size(4294967296) mem-buf-size(10485760)
                    dir("{dir}/queue")));
}};
log {{ source(s); destination(d); flags(flow-control); }};
"""


class Peer:
    """One of them in a directory of its own, started any number of times."""

    def __init__(self, directory, port, program, name, configuration, arguments):
        self.directory = os.path.join(directory, name.replace(" ", "-").replace(",", ""))
        os.makedirs(os.path.join(self.directory, "queue"))
        self.file = os.path.join(self.directory, "peer.conf")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(configuration.replace("{dir}", self.directory).replace("{port}", str(port))
                       .replace("{{", "{").replace("}}", "}"))
        self.arguments = [program] + [one.replace("{dir}", self.directory) for one in arguments]
        self.name = name
        self.process = None
        self.start()

    def start(self):
        self.process = Process(self.arguments, os.path.join(self.directory, "log"))
        wait_for(lambda: os.path.exists(self.path("stream")) or not self.process.running(),
                 f"{self.name} listens")
        if not self.process.running():
            raise Failure(f"{self.name} ended: {self.process.log()[-2000:]}")

    def path(self, kind):
        return os.path.join(self.directory, kind + ".sock")

    def kill(self):
        self.process.kill()
        for kind in ("stream", "datagram"):
            if os.path.exists(self.path(kind)):
                os.unlink(self.path(kind))


def rsyslog(program, checkpoint):
    """A pure disk queue, synced at every checkpoint."""
    return (program, f"rsyslog, sync/{checkpoint}",
            RSYSLOG.replace("{checkpoint}", str(checkpoint)),
            ["-n", "-f", "{dir}/peer.conf", "-i", "{dir}/pid"])


def syslog_ng(program):
    """The reliable disk buffer."""
    return (program, "syslog-ng, reliable", SYSLOG_NG,
            ["-F", "--no-caps", "-f", "{dir}/peer.conf", "-p", "{dir}/pid", "-c", "{dir}/control",
             "-R", "{dir}/persist"])


def wait_rest(pid, begin):
    """Seconds from `begin` until the process came to rest."""
    last, cpu = time.monotonic(), cpu_seconds(pid)
    while time.monotonic() - last < AT_REST:
        if time.monotonic() - begin > WAIT_MAX:
            raise Failure(f"process {pid} does not come to rest")
        time.sleep(0.02)
        now = cpu_seconds(pid)
        if now - cpu > 0.011:  # more than one tick
            last, cpu = time.monotonic(), now
    return last - begin


def receive(process, kind, path, events, seed):
    """N events in while the destination is down."""
    usage = Usage(process)
    begin = time.monotonic()
    said = load("lines" if kind == "stream" else "datagram", path, events=events, seed=seed,
                per_write=STREAM_EVENTS_PER_WRITE if kind == "stream" else 1)
    seconds = max(wait_rest(process.pid, begin), said["seconds"])
    _, cpu, written = usage.since()
    return {f"{kind}: events/s": events / seconds, f"{kind}: CPU an event, us": cpu / events * 1e6,
            f"{kind}: written per raw byte": written / said["raw_bytes"],
            f"{kind}: RSS, MiB": memory_mib(process.pid)[0]}


def wait_sink(sink):
    """Until no line has come for three seconds: (seconds to the last one, lines, distinct)."""
    begin = last = time.monotonic()
    seen = (0, 0)
    while time.monotonic() - last < 3 and last - begin < WAIT_MAX:
        time.sleep(0.05)
        if sink.counts() != seen:
            seen, last = sink.counts(), time.monotonic()
    return last - begin, *seen


def run_peer(directory, about, events, seed):
    """All steps of one peer, stream and datagram."""
    figures = {}
    for kind in ("stream", "datagram"):
        sink = Sink(directory)
        port = sink.port
        sink.kill()
        own = os.path.join(directory, kind)
        peer = Peer(own, port, *about)
        try:
            figures |= receive(peer.process, kind, peer.path(kind), events, seed)
            peer.kill()
            sink = Sink(directory, port)
            peer.start()
            usage = Usage(peer.process)
            seconds, lines, distinct = wait_sink(sink)
            figures |= {f"{kind}: missing after kill -9": events - distinct,
                        f"{kind}: repeated": lines - distinct}
            if distinct > 0:
                figures |= {
                    f"{kind}: delivery, CPU an event, us": usage.since()[1] / distinct * 1e6,
                    f"{kind}: delivery, events/s": distinct / max(seconds, 1e-3)}
        finally:
            peer.kill()
            sink.kill()
            shutil.rmtree(own, ignore_errors=True)
    return figures


def run_daemon(options, directory, progress, events):
    """The same steps of the daemon; rows of the upstream instead of lines."""
    figures = {}
    for kind, name in (("stream", "telemetry.stream.sock"), ("datagram", "telemetry.sock")):
        with Scene(options, directory, progress, up=False) as scene:
            relay, upstream = scene.relay, scene.upstream
            figures |= receive(relay, kind, scene.path(name), events, options.seed)
            relay.kill()
            upstream.control(down=False)
            relay.start()
            usage, begin = Usage(relay), time.monotonic()
            scene.wait_delivered("peers")
            seconds = time.monotonic() - begin
            rows = upstream.row_ids()
            figures |= {f"{kind}: missing after kill -9": events - len(set(rows)),
                        f"{kind}: repeated": upstream.stats()["repeated"],
                        f"{kind}: delivery, CPU an event, us": usage.since()[1] / events * 1e6,
                        f"{kind}: delivery, events/s": events / seconds}
    return figures


def version(program):
    """The first line that a program says about itself."""
    said = subprocess.run([program, "--version" if "syslog-ng" in program else "-v"],
                          capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def run(options, directory, progress):
    """[{name, version, figures}], the daemon first; peers that are not installed have a reason."""
    events = max(options.events // 20, 1000)
    found = []
    rsyslogd = shutil.which("rsyslogd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    other = options.syslog_ng or shutil.which(
        "syslog-ng", path=os.environ.get("PATH", "") + ":/usr/sbin")
    abouts = [rsyslog(rsyslogd, 1), rsyslog(rsyslogd, 1000)] if rsyslogd else []
    abouts += [syslog_ng(other)] if other else []
    if not abouts:
        return [{"name": "peers", "skipped": "neither rsyslog nor syslog-ng is installed "
                 "(apt-get install rsyslog, or syslog-ng-core: the packages exclude each other)"}]
    progress.show("peers: opsrelay")
    found.append({"name": "opsrelay", "version": "", "events": events,
                  "figures": run_daemon(options, directory, progress, events)})
    for about in abouts:
        progress.show(f"peers: {about[1]}")
        try:
            found.append({"name": about[1], "version": version(about[0]), "events": events,
                          "figures": run_peer(directory, about, events, options.seed)})
        except (Failure, AssertionError) as error:  # it may not be allowed to run here
            found.append({"name": about[1], "skipped": f"it does not work: {error}"})
    for name, program in (("rsyslog", rsyslogd), ("syslog-ng", other)):
        if not program:
            found.append({"name": name, "skipped": "not installed"})
    return found


def print_table(found):
    """Side by side."""
    if not found:
        return
    measured = [one for one in found if "figures" in one]
    print("\nPeers: destination down, then kill -9, then delivery")
    for one in found:
        if "skipped" in one:
            print(f"  {one['name']}: skipped, {one['skipped']}")
        elif one["version"]:
            print(f"  {one['name']}: {one['version']}")
    if not measured:
        return
    print(f"  {measured[0]['events']:<36}" + "".join(f"{one['name']:>22}" for one in measured))
    for row in measured[0]["figures"]:
        cells = (one["figures"].get(row) for one in measured)
        print(f"  {row:36}" + "".join(
            f"{'-' if cell is None else format(cell, ',.2f'):>22}" for cell in cells))
