#!/usr/bin/env python3
"""The demonstration: events go in over three sockets and end as exactly one row each, although the
upstream is down when they are sent, fails at random when it is back, and the daemon is killed.

Prints both ledgers and a verdict computed from the upstream's own rows.
"""

import os
import random
import socket
import sys
import tempfile
import time
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Relay, StreamClient, Upstream, event, line, wait_for  # noqa: E402

EVENTS = 1200
REPEATS = EVENTS // 10
SOCKETS = ("stream", "datagram", "udp")


def say(text=""):
    print(text, flush=True)


def send_stream(relay, items):
    with StreamClient(relay.path("telemetry.stream.sock")) as client:
        client.send(b"".join(line(item) for item in items))
        durable, rejected = client.finish()
    assert (durable, rejected) == (len(items), 0), (durable, rejected)


def send_datagrams(relay, items):
    for item in items:
        relay.datagram(line(item))


def send_udp(relay, items):
    """UDP has no flow control: wait for the daemon now and then, as a paced sender would."""
    port = relay.port("udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for index, item in enumerate(items):
            client.sendto(line(item), ("127.0.0.1", port))
            if index % 100 == 99:
                time.sleep(0.01)


SENDERS = dict(zip(SOCKETS, (send_stream, send_datagrams, send_udp)))


def make_batches(seed):
    """EVENTS distinct events and REPEATS repeats of them, shuffled, dealt out to the sockets."""
    rng = random.Random(seed)
    distinct = [event(str(uuid.UUID(int=rng.getrandbits(128)))) for _ in range(EVENTS)]
    everything = distinct + rng.sample(distinct, REPEATS)
    rng.shuffle(everything)
    return distinct, {name: everything[index::3] for index, name in enumerate(SOCKETS)}


def send_half(relay, batches, half):
    for name in SOCKETS:
        batch = batches[name]
        middle = len(batch) // 2
        part = batch[:middle] if half == 0 else batch[middle:]
        before = relay.ledger()["received"]
        SENDERS[name](relay, part)
        wait_for(lambda: relay.ledger()["received"] >= before + len(part), f"{name} received")
        say(f"  {len(part):4d} events over {name}")


def show_ledger(title, ledger):
    keys = ("received", "duplicates", "rejected", "shed", "accepted", "pending")
    say(f"  {title}: " + " ".join(f"{key}={ledger[key]}" for key in keys))
    keys = ("recovered", "replayed", "delivered", "dead", "dropped", "spooled", "imbalance")
    say("    " + " ".join(f"{key}={ledger[key]}" for key in keys))


def run(directory):
    distinct, batches = make_batches(seed=1)
    upstream = Upstream(directory)
    relay = Relay(directory, upstream.url)
    processes = [relay, upstream]
    try:
        say(f"opsrelay (pid {relay.pid}) forwards to opsrelay-upstream at {upstream.url}")
        say("\n1. The upstream goes down. The app does not notice.")
        upstream.control(down=True)
        send_half(relay, batches, 0)
        wait_for(lambda: relay.ledger()["pending"] == 0, "everything durable")
        first = relay.ledger()
        say(f"  spooled: {first['spooled']}, delivered: {first['delivered']}, "
            f"lane: {relay.lane()['state']}")

        say("\n2. The daemon is killed with SIGKILL and started again.")
        relay.kill()
        relay.start()
        say(f"  recovered from the spool: {relay.ledger()['recovered']} (pid {relay.pid})")

        say("\n3. The upstream is back, with 5 % random errors and resets. The rest is sent.")
        upstream.control(down=False, rates={"500_html": 25, "reset_before": 15,
                                            "reset_after_commit": 10})
        send_half(relay, batches, 1)
        wait_for(lambda: upstream.stats()["rows"] >= 200, "the first rows")

        say("\n4. Killed again in the middle of the delivery, and started again.")
        at_kill = relay.ledger()
        relay.kill()
        relay.start()
        wait_for(lambda: relay.ledger()["spooled"] == 0 and relay.ledger()["pending"] == 0,
                 "everything delivered", 120)
        return verdict(distinct, relay, upstream, [first, at_kill])
    finally:
        for process in processes:
            if process.running():
                process.end()


def verdict(distinct, relay, upstream, earlier):
    last = relay.ledger()
    stats = upstream.stats()
    ids = upstream.row_ids()
    expected = {item["externalRequestId"] for item in distinct}
    missing, foreign = expected - set(ids), set(ids) - expected
    say("\nLedgers (counters are per process; the last line of each run)")
    for number, ledger in enumerate([*earlier, last], 1):
        show_ledger(f"opsrelay, run {number}", ledger)
    say(f"  opsrelay-upstream: rows={stats['rows']} requests={stats['requests']} "
        f"repeated={stats['repeated']}")
    balanced = all(ledger["imbalance"] == 0 for ledger in [*earlier, last])
    once = len(ids) == len(set(ids))
    good = not missing and not foreign and once and balanced
    say(f"\n{len(distinct)} distinct events and {REPEATS} repeats went in; "
        f"{len(ids)} rows came out, {len(missing)} missing, {len(ids) - len(set(ids))} twice, "
        f"{len(foreign)} unknown; ledgers {'balance' if balanced else 'DO NOT BALANCE'}.")
    say("PASS: every event ended as exactly one row." if good else "FAIL")
    return 0 if good else 1


def main():
    with tempfile.TemporaryDirectory(prefix="opsrelay-demo-") as directory:
        return run(directory)


if __name__ == "__main__":
    sys.exit(main())
