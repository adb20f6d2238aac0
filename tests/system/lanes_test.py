"""Several lanes: each with its upstream, key and state; operators pause, flush and reload them."""

import json
import os
import signal
import subprocess
import unittest

from harness import (DEADLINE, RELAY, RelayTest, Upstream, UnixHttp, event, http_json,
                     in_threads, wait_for)


def lane_of(relay, name):
    for lane in relay.status()["lanes"]:
        if lane["name"] == name:
            return lane
    raise AssertionError(f"no lane {name}: {relay.status()['lanes']}")


class LanesTest(RelayTest):
    """`default` delivers to one upstream, `europe` to another."""

    def start_other(self, key="other-key", *options):
        directory = os.path.join(self.directory, f"other{len(self.processes)}")
        os.makedirs(directory)
        upstream = Upstream(directory, *options, key=key)
        self.processes.append(upstream)
        return upstream

    def key_file(self, name, key):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(key)
        return path

    def config(self, url, key_file, lane="europe", listener_lane="europe", more=""):
        lanes = f'lanes:\n  {lane}: {{url: "{url}", api_key_file: "{key_file}"}}\n' if url else ""
        return (lanes + "listeners:\n"
                "  - {type: unix_stream, path: telemetry.stream.sock}\n"
                "  - {type: http, path: http.sock}\n"
                f"  - {{type: http, path: europe.sock, lane: {listener_lane}}}\n" + more)

    def rewrite(self, relay, config):
        with open(relay.config_file, "w", encoding="utf-8") as file:
            file.write(config)

    def command(self, relay, *arguments, code=0):
        done = subprocess.run([RELAY, *arguments, "--run-dir", relay.run_dir],
                              capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def post_europe(self, relay, body):
        return http_json(UnixHttp(relay.path("europe.sock"), DEADLINE), "POST",
                         "/v1/ingest/llm-request", body)

    def start_two(self, other_url=None):
        self.start_upstream()
        self.other = self.start_other()
        self.other_key = self.key_file("other-key", "other-key")
        return self.start_relay(
            config=self.config(other_url or self.other.url, self.other_key))


class Delivery(LanesTest):

    def test_each_lane_delivers_to_its_own_upstream_with_its_own_key(self):
        relay = self.start_two()
        ids = [f"europe-{i}" for i in range(20)]
        for name in ids:
            self.assertEqual(self.post_europe(relay, event(name))[0], 200)
        relay.send_acked([event(f"us-{i}") for i in range(50)])
        self.wait_ledger(relay, delivered=70, spooled=0)
        self.assertEqual(sorted(self.other.row_ids()), sorted(ids))
        self.assertEqual(len(self.upstream.row_ids()), 50)
        # The same id in the other lane is another event.
        self.assertEqual(relay.post(event("europe-1"))[2].get("duplicate"), None)
        self.assertTrue(self.post_europe(relay, event("europe-1"))[2]["duplicate"])
        metrics = relay.admin("/metrics")[1]
        for lane in ("default", "europe"):
            self.assertIn(f'opsrelay_lane_state{{lane="{lane}",state="active"}} 1', metrics)
            self.assertIn(f'opsrelay_lane_spooled_events{{lane="{lane}"}}', metrics)

    def test_a_dead_upstream_or_a_bad_key_holds_up_only_its_lane_across_restarts(self):
        relay = self.start_two()
        self.other.kill()  # nobody listens there any more
        for i in range(30):
            self.assertEqual(self.post_europe(relay, event(f"europe-{i}"))[0], 200)
        relay.send_acked([event(f"us-{i}") for i in range(2000)])
        self.wait_ledger(relay, delivered=2000, spooled=30)
        self.assertEqual(lane_of(relay, "europe")["state"], "backing_off")
        self.assertEqual(lane_of(relay, "europe")["spooled"], 30)
        self.assertEqual(lane_of(relay, "default")["spooled"], 0)
        relay.kill()
        relay.start()
        relay.send_acked([event(f"us-{i}") for i in range(2000, 2100)])
        wait_for(lambda: len(self.upstream.row_ids()) == 2100, "the other lane delivers")
        self.assertEqual(lane_of(relay, "europe")["spooled"], 30)
        relay.end()
        # With another key than the one that its upstream knows.
        self.key_file("other-key", "wrong-key")
        self.other = self.start_other()
        self.rewrite(relay, self.config(self.other.url, self.other_key))
        relay.start()
        wait_for(lambda: lane_of(relay, "europe")["state"] == "unauthorized", "401")
        relay.send_acked([event(f"us-{i}") for i in range(2100, 2200)])
        wait_for(lambda: len(self.upstream.row_ids()) == 2200, "the other lane delivers")
        self.key_file("other-key", "other-key")
        wait_for(lambda: len(self.other.row_ids()) == 30, "the lane has its key")
        self.wait_ledger(relay, spooled=0)

    def test_http_clients_see_the_state_of_their_listeners_lane(self):
        relay = self.start_two()
        self.other.control(plan={"name": "Free", "limit": 1})
        for i in range(2):
            self.assertEqual(self.post_europe(relay, event(f"europe-{i}"))[0], 200)
            self.assertEqual(relay.post(event(f"us-{i}"))[0], 200)
        wait_for(lambda: lane_of(relay, "europe")["state"] == "plan_limited", "402")
        self.wait_ledger(relay, delivered=3)
        told = self.post_europe(relay, event())[2]
        self.assertTrue(told["telemetryPaused"], told)
        self.assertTrue(told["isPlanLimitReached"], told)
        own = relay.post(event())[2]
        self.assertFalse(own["telemetryPaused"], own)
        self.assertNotEqual(own["planTier"], told["planTier"])


class Operator(LanesTest):

    def test_a_pause_holds_its_lane_across_a_kill_until_it_is_resumed(self):
        relay = self.start_two()
        done = self.command(relay, "pause", "--lane", "europe")
        self.assertEqual(done.stdout, "paused: europe\n")
        relay.kill()
        relay.start()
        self.assertEqual(self.post_europe(relay, event("held"))[0], 200)
        relay.send_acked([event(f"us-{i}") for i in range(10)])
        self.wait_ledger(relay, delivered=10, spooled=1)
        self.assertEqual(lane_of(relay, "europe")["state"], "paused")
        self.assertIn("opsrelay resume", lane_of(relay, "europe")["next"])
        self.assertEqual(self.other.row_ids(), [])
        done = self.command(relay, "flush", "--timeout", "60s", code=1)  # ends at once all the same
        self.assertRegex(done.stderr,
                         "lane europe: 1 events left, paused by an operator; .*opsrelay resume")
        done = self.command(relay, "resume", "--output", "json")
        self.assertEqual(json.loads(done.stdout),
                         {"paused": False, "lanes": ["default", "europe"]})
        self.wait_ledger(relay, delivered=11, spooled=0)
        self.command(relay, "pause", "--lane", "nowhere", code=1)

    def test_a_pause_without_a_daemon_changes_the_spool(self):
        relay = self.start_two()
        relay.end()
        done = subprocess.run(
            [RELAY, "pause", "--spool-dir", relay.spool_dir], capture_output=True, text=True,
            timeout=DEADLINE, check=False, env={**os.environ, "HOME": self.directory})
        self.assertEqual((done.returncode, done.stdout), (0, "paused: default\n"), done.stderr)
        # The other lane is in the spool, though in no configuration that this command reads.
        for command, told in (("pause", "paused"), ("resume", "resumed")):
            done = subprocess.run(
                [RELAY, command, "--lane", "europe", "--spool-dir", relay.spool_dir],
                capture_output=True, text=True, timeout=DEADLINE, check=False,
                env={**os.environ, "HOME": self.directory})
            self.assertEqual((done.returncode, done.stdout), (0, f"{told}: europe\n"), done.stderr)
        relay.start()
        self.assertEqual(lane_of(relay, "default")["state"], "paused")
        self.assertEqual(lane_of(relay, "europe")["state"], "active")

    def test_flush_waits_for_what_came_before_and_ends_a_backoff(self):
        relay = self.start_two()
        self.other.control(down=True)
        for i in range(5):
            self.assertEqual(self.post_europe(relay, event(f"europe-{i}"))[0], 200)
        wait_for(lambda: lane_of(relay, "europe")["state"] == "backing_off", "it backs off")
        done = self.command(relay, "flush", "--timeout", "500ms", code=1)
        self.assertIn("lane europe: 5 events left, backing_off", done.stderr)
        done = self.command(relay, "flush", "--timeout", "0s", "--output", "json", code=1)
        left = json.loads(done.stdout)
        self.assertFalse(left["empty"])
        self.assertEqual([lane["name"] for lane in left["lanes"]], ["europe"])
        self.command(relay, "flush", "--lane", "default", "--timeout", "30s")
        self.other.control(down=False)
        done = self.command(relay, "flush", "--timeout", "55s")
        self.assertEqual(done.stdout, "everything accepted before has its outcome\n")
        self.assertEqual(len(self.other.row_ids()), 5)

    def test_flush_counts_what_became_a_dead_letter(self):
        relay = self.start_two()
        self.other.control(script=["422"])
        self.assertEqual(self.post_europe(relay, event())[0], 200)
        self.command(relay, "flush", "--lane", "europe")
        self.assertEqual(self.wait_ledger(relay, spooled=0)["dead"], 1)


class Reload(LanesTest):

    def test_a_lane_comes_and_goes_and_keeps_its_records(self):
        self.start_upstream()
        self.other = self.start_other()
        self.other_key = self.key_file("other-key", "other-key")
        relay = self.start_relay(config=self.config("", "", listener_lane="default"))
        pid = relay.pid
        self.rewrite(relay, self.config(self.other.url, self.other_key))
        done = self.command(relay, "reload")
        self.assertEqual(done.stdout, "reloaded: lanes.europe, listeners[2].lane\n")
        self.assertEqual(self.post_europe(relay, event("first"))[0], 200)
        wait_for(lambda: self.other.row_ids() == ["first"], "the new lane delivers")

        self.other.control(down=True)
        self.assertEqual(self.post_europe(relay, event("second"))[0], 200)
        wait_for(lambda: lane_of(relay, "europe")["state"] == "backing_off", "it fails")
        self.rewrite(relay, self.config("", "", listener_lane="default"))
        self.command(relay, "reload")
        self.assertEqual(self.post_europe(relay, event("third"))[0], 200)
        wait_for(lambda: self.upstream.row_ids() == ["third"], "the listener has changed lanes")
        self.assertEqual(lane_of(relay, "europe")["state"], "not_configured")
        self.assertEqual(lane_of(relay, "europe")["spooled"], 1)
        done = self.command(relay, "flush", "--timeout", "60s", code=1)  # ends at once all the same
        self.assertRegex(done.stderr,
                         "lane europe: 1 events left, not_configured; .*opsrelay spool purge --lane")
        self.assert_balanced(relay)

        self.other.control(down=False)
        self.rewrite(relay, self.config(self.other.url, self.other_key))
        self.command(relay, "reload")
        wait_for(lambda: self.other.row_ids() == ["first", "second"], "it goes on")
        self.wait_ledger(relay, delivered=3, spooled=0)
        self.assertEqual(relay.pid, pid)

    def test_a_configuration_that_is_wrong_changes_nothing(self):
        relay = self.start_two()
        good = self.config(self.other.url, self.other_key)
        before = self.command(relay, "status", "--output", "json").stdout
        cases = [
            ("lanes:\n  europe: {conections: 3}\n" + good.split("\n", 2)[2],
             "opsrelay.yaml:2:12: lanes.europe.conections: unknown key; "
             "did you mean lanes.europe.connections?"),
            (good.replace("lane: europe", "lane: europ"), 'there is no lane "europ"; did you mean'),
            (good + "spool: {commit_gap: 10s}\n", "spool.commit_gap: 10000ms is outside"),
            (good + "dedupe: {window: 1h}\nlog: {level: debug}\n",
             "dedupe.window: changed, which a reload cannot do; restart needed"),
            (good + "  - {type: http, path: more.sock}\n",
             "listeners: changed, which a reload cannot do; restart needed"),
            (good + "spool: {max_bytes: 128MiB}\n", "restart needed"),
        ]
        for config, complaint in cases:
            with self.subTest(complaint=complaint):
                self.rewrite(relay, config)
                done = self.command(relay, "reload", code=2)
                self.assertIn(complaint, done.stderr)
        self.rewrite(relay, good)
        self.assertEqual(self.command(relay, "reload").stdout, "reloaded: nothing changed\n")
        after = json.loads(self.command(relay, "status", "--output", "json").stdout)
        self.assertEqual([lane["state"] for lane in after["lanes"]],
                         [lane["state"] for lane in json.loads(before)["lanes"]])
        self.assertEqual(self.post_europe(relay, event("still"))[0], 200)
        wait_for(lambda: self.other.row_ids() == ["still"], "the lane delivers as before")

    def test_sighup_reloads_and_does_not_end_the_process(self):
        relay = self.start_two()
        third = self.start_other("other-key")
        self.rewrite(relay, self.config(third.url, self.other_key, more="log: {level: debug}\n"))
        relay.signal(signal.SIGHUP)
        wait_for(lambda: 'msg="configuration reloaded"' in relay.log(), "it is reloaded")
        self.assertIn("lanes.europe.url, log.level", relay.log())
        self.assertEqual(self.post_europe(relay, event("third"))[0], 200)
        wait_for(lambda: third.row_ids() == ["third"], "the lane has another upstream")
        self.rewrite(relay, self.config(third.url, self.other_key, more="log: {level: error}\n"))
        self.assertEqual(self.command(relay, "reload").stdout, "reloaded: log.level\n")
        self.assertEqual(relay.log().count('msg="configuration reloaded"'), 1)  # no error
        self.rewrite(relay, "lanes: 3\n")
        relay.signal(signal.SIGHUP)
        wait_for(lambda: 'msg="configuration not reloaded"' in relay.log(), "it is refused")
        self.assertEqual(self.post_europe(relay, event("fourth"))[0], 200)
        wait_for(lambda: third.row_ids() == ["third", "fourth"], "all is as before")
        self.assertEqual(relay.end(), 0)

    def test_reloads_under_load_lose_nothing_and_send_nothing_twice(self):
        relay = self.start_two()
        rounds = 12

        def send_default():
            for burst in range(rounds):
                events = [event(f"us-{burst}-{i}") for i in range(200)]
                self.assertEqual(relay.send_acked(events), (200, 0))

        def send_europe():
            for i in range(rounds * 10):
                self.assertEqual(self.post_europe(relay, event(f"europe-{i}"))[0], 200)

        def reload():
            for i in range(rounds):
                config = self.config(self.other.url, self.other_key, more=(
                    f"spool: {{commit_gap: {i % 3}ms}}\nstream: {{ack_timeout: {30 + i}s}}\n"))
                if i % 2 == 1:  # this one changes the lane itself
                    config = config.replace("api_key_file", "connections: 3, api_key_file")
                self.rewrite(relay, config)
                self.command(relay, "reload")

        in_threads([send_default, send_europe, reload])
        self.wait_ledger(relay, delivered=rounds * 210, spooled=0)
        self.assertEqual(len(set(self.upstream.row_ids())), rounds * 200)
        self.assertEqual(len(set(self.other.row_ids())), rounds * 10)
        self.assertEqual(self.upstream.stats()["repeated"], 0)
        self.assertEqual(self.other.stats()["repeated"], 0)

    def test_rules_for_events_and_limits_change(self):
        relay = self.start_two()
        config = self.config(self.other.url, self.other_key)
        batch = "/v1/ingest/batch"

        def large(name):  # together more than 64 KiB
            return [event(f"{name}-{number}", pad="x" * 30_000) for number in range(3)]

        self.assertEqual(relay.post(event(externalRequestId=...))[0], 200)
        self.assertEqual(relay.post(large("before"), path=batch)[0], 200)
        self.rewrite(relay, config + "events: {missing_id: reject}\n"
                     "privacy: {deny_fields: [secret]}\n"
                     "http: {max_body: 64KiB}\nspool: {max_age: 1h, max_bytes: 1GiB}\n")
        done = self.command(relay, "reload", "--output", "json")
        self.assertEqual(
            json.loads(done.stdout)["changed"],
            ["spool.max_bytes", "spool.max_age", "events.missing_id", "privacy.deny_fields",
             "http.max_body"])
        self.assertEqual(relay.post(event(externalRequestId=...))[0], 400)
        self.assertEqual(relay.post(event("kept", prompt="shown", secret="hidden"))[0], 200)
        self.assertEqual(relay.post(large("after"), path=batch)[0], 413)
        self.assertEqual(relay.status()["spool"]["limit"], 1 << 30)
        self.wait_ledger(relay, delivered=5)
        kept = [row["body"] for row in self.upstream.rows() if row["externalRequestId"] == "kept"]
        self.assertEqual(len(kept), 1)
        self.assertEqual(kept[0]["prompt"], "shown")
        self.assertNotIn("secret", kept[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
