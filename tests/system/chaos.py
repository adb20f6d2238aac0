"""What the chaos test is made of: a service that keeps its rows across restarts, faults drawn from
a seed, and clients that send an id again until they are told that it is safe."""

import collections
import http.client
import json
import os
import random
import socket
import threading
import time
import uuid

from harness import DEADLINE, INGEST, UnixHttp, Upstream, event, http_json, line, wait_for

PRELOAD_EVENTS = 3000  # in one request: within the emulator's batch.bytes_max
STALL_MS = 4000        # longer than the timeout of the lane
# After these the row is there, and the relay may not hear of it.
LOST_REPLIES = ("reset_after_commit", "stall_after_commit", "truncated_body", "slow_body",
                "latency", "results_missing")
REFUSALS = ("400", "413", "422")  # of a single event: a dead letter

# Highest rate per mille of each fault; a storm draws some of them, and of each how many.
RATES = {
    "400": 3, "413": 2, "422": 3, "408": 30, "409": 30, "425": 20, "500": 40, "502": 40, "504": 40,
    "500_html": 40, "503_empty": 40, "200_empty": 100, "204": 100, "reset_before": 60,
    "reset_after_commit": 60, "stall": 3, "stall_after_commit": 3, "truncated_body": 60,
    "close_after": 100,
}
RATES_WITH = {
    "429": (10, {"retry_after": "1"}), "503": (10, {"retry_after": "1"}),
    "slow_body": (20, {"ms": 20}), "latency": (60, {"ms": 100}),
}
# Of the items of batches, and of the requests that carry them.
ITEM_RATES = {"400": 3, "413": 2, "422": 3, "408": 20, "409": 30, "429": 5, "500": 40, "503": 40}
BATCH_RATES = {"results_reversed": 100, "results_missing": 60}
# For every request, until the script heals it: each parks the lane, or makes it back off.
EPISODES = ("401", "403", "404", "302", "200_html", "200_ok_false", "400", "402_plan", "402_budget",
            "503_empty", "reset_before", "reset_after_commit")


def draw(rng, table):
    """A random part of the faults, each at a random rate."""
    return {fault: rng.randint(1, most) for fault, most in table.items() if rng.random() < 0.5}


def storm(rng, kind):
    """What POST /control is told for the next seconds."""
    rates = draw(rng, RATES)
    for fault, (most, more) in RATES_WITH.items():
        if rng.random() < 0.5:
            rates[fault] = {"per_mille": rng.randint(1, most), **more}
    settings = {"seed": rng.getrandbits(31), "rates": rates}
    if kind == "batch":
        rates.update(draw(rng, BATCH_RATES))
        settings["item_rates"] = draw(rng, ITEM_RATES)
    return settings


class Service:
    """The local upstream as a service with a database: killed and started again on the same port,
    it still has every row. Thread: the script's."""

    def __init__(self, directory, key):
        self.directory = directory
        self.key = key
        self.faults = collections.Counter()  # of the lives that are over
        self.refused = 0                     # events and batches, the same
        self.repeated = 0                    # the same
        self.kept = []                       # ids that were rows when the last life ended
        self.lives = 0
        self.now = None
        self.start()

    def start(self, port=None):
        directory = os.path.join(self.directory, f"upstream-{self.lives}")
        os.makedirs(directory)
        self.lives += 1
        self.now = Upstream(directory, "--set", f"stall_ms={STALL_MS}", key=self.key, port=port)

    def kill_and_start(self, between):
        """kill -9; `between` is called while nobody listens."""
        self.now.control(down=True)  # what it has taken by now is in the database, nothing else is
        self.kept = self.now.row_ids()
        self.add_up()
        self.now.kill()
        between()
        self.start(self.now.port)
        self.load()

    def add_up(self):
        stats = self.now.stats()
        self.faults.update(stats["by_fault"])
        for counts in (stats["by_status"], stats["by_item_status"]):
            self.refused += sum(counts.get(status, 0) for status in REFUSALS)
        self.repeated += stats["repeated"]

    def load(self):
        """Puts the rows of the life before into this one; the relay may have been quicker with some
        whose reply was lost."""
        for begin in range(0, len(self.kept), PRELOAD_EVENTS):
            ids = self.kept[begin:begin + PRELOAD_EVENTS]
            body = b"".join(line(event(one)) for one in ids)
            assert len(body) <= 1 << 20, len(body)
            connection = http.client.HTTPConnection("127.0.0.1", self.now.port, timeout=DEADLINE)
            status, _, reply = http_json(
                connection, "POST", "/v1/ingest/batch", body,
                {"Content-Type": "application/x-ndjson", "X-API-Key": self.key})
            assert status == 200, (status, reply)
            assert all(result["status"] == 200 for result in reply["results"]), reply
        self.repeated -= self.now.stats()["repeated"]

    def change_key(self, key):
        self.key = key
        self.now.key = key
        self.now.control(api_keys=[key])

    def heal(self):
        self.now.control(down=False, rates={}, item_rates={}, api_keys=[self.key])


class Sender:
    """Runs send_some() until it is stopped, and then until nothing is left to send again."""

    def __init__(self, relay, seed):
        self.relay = relay
        self.rng = random.Random(seed)
        self.sent = set()
        self.acknowledged = set()
        self.stop = threading.Event()

    def new_id(self):
        one = str(uuid.UUID(int=self.rng.getrandbits(128)))
        self.sent.add(one)
        return one

    def run(self):
        while not self.stop.is_set():
            self.send_some()
            self.stop.wait(self.rng.uniform(0, 0.1))

    def send_some(self):
        raise NotImplementedError

    def post(self, event_id):
        """Until it is confirmed; a 503 says that it is not, and that the same id may come again."""
        def confirmed():
            try:
                connection = UnixHttp(self.relay.path("http.sock"), DEADLINE)
                status, _, reply = http_json(connection, "POST", INGEST,
                                             event(event_id))
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                return False  # the daemon is being restarted
            assert status in (200, 503), (status, reply)
            return status == 200
        wait_for(confirmed, f"POST of {event_id} is confirmed", 2 * DEADLINE)
        self.acknowledged.add(event_id)


class HttpSender(Sender):
    def send_some(self):
        one = self.new_id()
        self.post(one)
        if self.rng.random() < 0.1:
            self.post(one)  # as a client whose reply was lost


class DatagramSender(Sender):
    """Sends an id again when the socket refuses it. A part of the ids it posts as well: only those
    are acknowledged, and they come twice."""

    def send_some(self):
        ids = [self.new_id() for _ in range(self.rng.randint(1, 5))]
        data = b"".join(line(event(one)) for one in ids)
        wait_for(lambda: self.datagram(data), "a datagram is taken", 2 * DEADLINE)
        if self.rng.random() < 0.3:
            self.post(self.rng.choice(ids))

    def datagram(self, data):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.settimeout(1)
                client.sendto(data, self.relay.path("telemetry.sock"))
                return True
        except OSError:
            return False


def probes_max(seconds, base=0.25, ceiling=60.0):
    """How many probes full jitter makes within `seconds`, but for one lane in a billion. The waits
    are uniform up to a ceiling that doubles from `base`: of n waits with ceilings c the sum is less
    than t in t^n / (n! * c1 * ... * cn) of all cases. Short ones count as none."""
    chance, probes, counted = 1.0, 0, 0
    while chance > 1e-9:
        longest = min(ceiling, base * 2 ** probes)
        probes += 1
        if longest >= seconds:
            counted += 1
            chance *= seconds / (longest * counted)
    return probes


def sleep_until(end):
    time.sleep(max(0.0, end - time.monotonic()))
