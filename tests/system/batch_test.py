#!/usr/bin/env python3
"""An upstream of kind batch: several events in one request, each with a result of its own."""

import unittest

from harness import RelayTest, event, wait_for

FORMS = tuple((form, coding) for form in ("ndjson", "array") for coding in ("gzip", "zstd", "none"))


def config(**settings):
    lines = "".join(f"  {key}: {value}\n" for key, value in settings.items())
    return f"upstream:\n  kind: batch\n{lines}"


class BatchTest(RelayTest):
    def test_every_form_arrives_and_takes_few_requests(self):
        upstream = self.start_upstream()
        upstream.control(batch={"codings": "gzip_zstd"})
        for form, compression in FORMS:
            with self.subTest(form=form, compression=compression):
                before = upstream.stats()
                relay = self.start_relay(name=f"{form}-{compression}", config=config(
                    batch_format=form, batch_compression=compression, batch_linger="50ms"))
                sent = [event() for _ in range(2000)]
                self.assertEqual(relay.send_acked(sent), (2000, 0))
                self.wait_ledger(relay, spooled=0, delivered=2000)
                wanted = {one["externalRequestId"] for one in sent}
                self.assertEqual(wanted - set(upstream.row_ids()), set())
                after = upstream.stats()
                self.assertEqual(after["batch_requests"], after["requests"])
                self.assertEqual(after["batch_items"] - before["batch_items"], 2000)
                self.assertEqual(after["rows"] - before["rows"], 2000)
                self.assertLess(after["batch_requests"] - before["batch_requests"], 200)
                self.assertEqual(relay.end(), 0)

    def test_a_lone_event_goes_when_it_has_waited(self):
        upstream = self.start_upstream()
        relay = self.start_relay(config=config(batch_linger="100ms"))
        self.assertEqual(relay.post(event("alone"))[0], 200)
        self.wait_ledger(relay, spooled=0)
        self.assertEqual(upstream.row_ids(), ["alone"])

    def test_results_decide_event_by_event(self):
        upstream = self.start_upstream()
        relay = self.start_relay(config=config(batch_linger="200ms"))
        upstream.control(item_script=["400", "ok", "503", "409", "ok"])
        self.assertEqual(relay.send_acked([event(f"e{number}") for number in range(5)]), (5, 0))
        ledger = self.wait_ledger(relay, spooled=0)
        self.assertEqual((ledger["delivered"], ledger["dead"]), (4, 1))
        self.assertEqual(sorted(upstream.row_ids()), ["e1", "e2", "e3", "e4"])

    def test_results_in_another_order_or_missing(self):
        upstream = self.start_upstream()
        relay = self.start_relay(config=config(batch_linger="200ms"))
        upstream.control(script=["results_reversed", "results_missing"],
                         item_script=["422"])
        sent = [event(f"e{number}") for number in range(10)]
        self.assertEqual(relay.send_acked(sent), (10, 0))
        ledger = self.wait_ledger(relay, spooled=0)
        self.assertEqual((ledger["delivered"], ledger["dead"]), (9, 1))
        self.assertEqual(sorted(upstream.row_ids()), [f"e{number}" for number in range(1, 10)])
        self.assertEqual(relay.post(event("e10"))[0], 200)
        self.assertEqual(relay.post(event("e11"))[0], 200)
        self.wait_ledger(relay, spooled=0, delivered=11)
        rows = upstream.row_ids()
        self.assertEqual(len(rows), len(set(rows)))

    def test_what_is_too_large_is_halved_until_it_fits(self):
        upstream = self.start_upstream()
        upstream.control(batch={"items_max": 60})
        relay = self.start_relay(config=config(batch_max_events=500, batch_linger="100ms"))
        sent = [event() for _ in range(1500)]
        self.assertEqual(relay.send_acked(sent), (1500, 0))
        self.wait_ledger(relay, spooled=0, delivered=1500, dead=0)
        self.assertEqual(len(set(upstream.row_ids())), 1500)

    def test_an_upstream_without_batches_gets_one_event_at_a_time_and_loses_none(self):
        upstream = self.start_upstream()
        upstream.control(script=[{"fault": "404", "times": 1}, {"fault": "200_html", "times": 1}])
        relay = self.start_relay(config=config(batch_linger="50ms"))
        self.assertEqual(relay.send_acked([event() for _ in range(20)]), (20, 0))
        wait_for(lambda: relay.lane()["state"] == "misconfigured", "the lane says so")
        ledger = relay.ledger()
        self.assertEqual((ledger["spooled"], ledger["dead"]), (20, 0))
        self.assertEqual(relay.end(), 0)
        relay.start()
        wait_for(lambda: relay.lane()["state"] == "misconfigured", "the lane says so again")
        upstream.control(script=[])
        self.assertEqual(relay.end(), 0)
        relay.start()
        self.wait_ledger(relay, spooled=0, delivered=20)

    def test_an_upstream_that_cannot_unpack_stops_the_lane_and_the_status_names_the_key(self):
        upstream = self.start_upstream()  # takes gzip, not zstd
        relay = self.start_relay(config=config(batch_linger="50ms", batch_compression="zstd"))
        self.assertEqual(relay.send_acked([event() for _ in range(20)]), (20, 0))
        wait_for(lambda: relay.lane()["state"] == "misconfigured", "the lane says so")
        self.assertIn("HTTP 415: upstream does not take batch_compression zstd",
                      relay.lane()["last_error"])
        self.assertEqual(relay.ledger()["spooled"], 20)
        self.assertEqual(relay.end(), 0)
        with open(relay.config_file, "w", encoding="utf-8") as file:
            file.write(config(batch_linger="50ms"))
        relay.start()
        self.wait_ledger(relay, spooled=0, delivered=20)
        self.assertEqual(len(upstream.row_ids()), 20)

    def test_relay_to_relay(self):
        """A relay takes batches as it sends them; a repeat from the first is a duplicate there."""
        upstream = self.start_upstream()
        second = self.start_relay(name="second")
        first = self.start_relay(name="first", upstream_url=f"unix:{second.path('http.sock')}",
                                 config=config(batch_linger="50ms", batch_compression="zstd"))
        sent = [event() for _ in range(3000)]
        self.assertEqual(first.send_acked(sent), (3000, 0))
        self.wait_ledger(first, spooled=0, delivered=3000)
        second.kill()
        self.assertEqual(first.send_acked([event() for _ in range(500)]), (500, 0))
        second.start()
        self.wait_ledger(first, spooled=0, delivered=3500)
        self.wait_ledger(second, spooled=0)
        rows = upstream.row_ids()
        self.assertEqual((len(rows), len(set(rows))), (3500, 3500))

    def test_killed_again_and_again(self):
        upstream = self.start_upstream()
        relay = self.start_relay(config=config(batch_max_events=20, batch_linger="10ms"))
        ids = set()
        for _ in range(5):
            sent = [event() for _ in range(500)]
            self.assertEqual(relay.send_acked(sent), (500, 0))
            ids |= {one["externalRequestId"] for one in sent}
            relay.kill()
            relay.start()
        self.wait_ledger(relay, spooled=0)
        rows = upstream.row_ids()
        self.assertEqual(ids - set(rows), set())
        self.assertEqual(len(rows), len(set(rows)))


if __name__ == "__main__":
    unittest.main(verbosity=1)
