"""A client of the acked stream as the protocol wants it: it keeps what is not settled, and sends it
again on the next connection."""

import random
import threading
import time
import uuid

from harness import StreamClient, event, line


class AckedSender:
    """Keeps every line until it is settled; reconnects and re-sends, as the protocol asks."""

    def __init__(self, path, seed, make=event, pause=0.0):
        self.path = path
        self.make = make  # an event of an id
        self.pause = pause  # seconds at most between two writes; 0: as fast as acks come
        self.rng = random.Random(seed)
        self.acknowledged = set()
        self.sent = set()
        self.unsettled = []  # ids in the order of their lines
        self.stop = threading.Event()

    def run(self):
        while not self.stop.is_set():
            try:
                with StreamClient(self.path) as client:
                    self.talk(client)
            except (OSError, ConnectionError):
                time.sleep(0.005)  # the daemon is being restarted

    def talk(self, client):
        resend, self.unsettled = self.unsettled, []
        settled = 0
        self.write(client, resend)
        while not self.stop.is_set() or self.unsettled:
            if not self.stop.is_set() and len(self.unsettled) < 500:
                if self.pause:
                    self.stop.wait(self.rng.uniform(0, self.pause))
                self.write(client, [str(uuid.UUID(int=self.rng.getrandbits(128)))
                                    for _ in range(self.rng.randint(1, 40))])
            if not client.read_ack():
                return
            assert client.rejected == 0
            done = client.durable - settled
            self.acknowledged.update(self.unsettled[:done])
            del self.unsettled[:done]
            settled = client.durable

    def write(self, client, ids):
        self.unsettled.extend(ids)
        self.sent.update(ids)
        client.send(b"".join(line(self.make(one)) for one in ids))
