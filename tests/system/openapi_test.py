#!/usr/bin/env python3
"""Holds the daemon to proto/openapi.yaml: every status of every path is provoked, every reply is one that the
document has, and its request schema is that of the events which are taken."""

import contextlib
import http.client
import json
import os
import random
import select
import socket
import unittest

import jsonschema
import yaml

from harness import DEADLINE, INGEST, RelayTest, event, wait_for
from input_test import CONNECTIONS_MAX, connect, descriptors

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto")
BATCH = "/v1/ingest/batch"
STATUS = "/v1/diagnostics/workspace-status"
METHODS = {INGEST: "POST", BATCH: "POST", STATUS: "GET"}
TOKEN = "the-token-of-this-test"


def load(name):
    with open(os.path.join(PROTO, name), encoding="utf-8") as file:
        return yaml.safe_load(file)  # JSON is YAML


class Document:
    """The OpenAPI document with its references resolved."""

    def __init__(self):
        self.files = {"": load("openapi.yaml"), "event.schema.json": load("event.schema.json")}
        self.paths = self.resolve(self.files[""]["paths"])

    def resolve(self, node, file=""):
        if isinstance(node, list):
            return [self.resolve(one, file) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" not in node:
            return {key: self.resolve(value, file) for key, value in node.items()}
        target, _, pointer = node["$ref"].partition("#")
        target = target or file
        found = self.files[target]
        for part in pointer.strip("/").split("/"):
            found = found[part.replace("~1", "/")]
        others = {key: value for key, value in node.items() if key != "$ref"}
        found = self.resolve(found, target)
        return {"allOf": [found, self.resolve(others, file)]} if others else found

    def operations(self):
        """{(path, method): operation}"""
        return {(path, method): operation for path, item in self.paths.items()
                for method, operation in item.items() if method in ("get", "post")}


def problems(schema, value):
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def raw(method, path, body=b"", **fields):
    """A request's bytes; a field of None is left out."""
    fields = {"Host": "localhost", "Content-Type": "application/json",
              "Content-Length": str(len(body)), **{
                  name.replace("_", "-"): value for name, value in fields.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class OpenApiTest(RelayTest):
    def setUp(self):
        super().setUp()
        self.document = Document()
        self.seen = set()

    def start(self):
        self.start_upstream("--set", "plan.name=Free", "--set", "plan.used=10000")
        tokens = os.path.join(self.directory, "tokens")
        with open(tokens, "w", encoding="utf-8") as file:
            file.write(TOKEN)
        return self.start_relay(config=f"""
http: {{mirror_upstream: true, max_body: 64KiB}}
listeners:
  - {{type: http, path: http.sock}}
  - {{type: http, path: tokens.sock, token_file: "{tokens}"}}
  - {{type: http, path: limited.sock, rate_limit: 1}}
  - {{type: http, path: others.sock, allow_uids: [4000000000]}}
""")

    def reply_of(self, client, head_only=False):
        reply = http.client.HTTPResponse(client, method="HEAD" if head_only else "POST")
        reply.begin()
        return reply.status, reply.headers, reply.read()

    def check(self, path, status, headers, body):
        """The reply is one that the document has for this path."""
        operation = self.document.operations()[path, METHODS_OF[path].lower()]
        self.assertIn(str(status), operation["responses"], (path, body))
        documented = operation["responses"][str(status)]
        self.assertEqual(headers["Content-Type"], "application/json")
        schema = documented["content"]["application/json"]["schema"]
        self.assertEqual(problems(schema, json.loads(body)), [], (path, status, body[:500]))
        for name, header in documented.get("headers", {}).items():
            value = headers[name]
            self.assertIsNotNone(value, (path, status, name))
            value = int(value) if header["schema"].get("type") == "integer" else value
            self.assertEqual(problems(header["schema"], value), [], (path, status, name))
        for name in ("Retry-After", "Allow", "WWW-Authenticate"):
            self.assertEqual(name in headers, name in documented.get("headers", {}), (path, status))
        self.seen.add((path, str(status)))
        return json.loads(body)

    def ask(self, relay, path, request, socket_name="http.sock", status=None, template=None):
        with connect(relay.path(socket_name)) as client:
            # A peer that is not allowed is told so before it has said anything.
            with contextlib.suppress(ConnectionError):
                client.sendall(request)
            code, headers, body = self.reply_of(client)
        if status is not None:
            self.assertEqual(code, status, body)
        return self.check(template or path, code, headers, body)

    def test_every_documented_reply_and_no_other(self):
        with descriptors(2 * CONNECTIONS_MAX + 500), contextlib.ExitStack() as stack:
            relay = self.start()
            slow = {path: stack.enter_context(connect(relay.path("http.sock")))
                    for path in METHODS}
            for path, client in slow.items():
                client.sendall(raw(METHODS[path], path, b"x" * 9)[:-5])
            self.provoke_of_events(relay)
            for path in METHODS:
                self.provoke_of_any(relay, path)
            for path, client in slow.items():
                self.assertTrue(select.select([client], [], [], DEADLINE)[0], "408 in time")
                self.check(path, *self.reply_of(client))
            self.provoke_503(relay, stack)
        documented = {(path, status) for (path, _), operation in self.document.operations().items()
                      for status in operation["responses"] if status != "default"}
        self.assertEqual(self.seen, documented)

    def provoke_of_events(self, relay):
        good = json.dumps(event("first")).encode()
        self.ask(relay, INGEST, raw("POST", INGEST, good), status=200)
        wait_for(lambda: relay.lane()["state"] == "plan_limited", "402 upstream")
        repeat = self.ask(relay, INGEST, raw("POST", INGEST, good), status=402)
        self.assertTrue(repeat["duplicate"])
        self.ask(relay, INGEST, raw("POST", INGEST, b'{"model":5}'), status=400)
        self.ask(relay, BATCH, raw("POST", BATCH, b'[{"model":5},' + good + b"]"), status=200)
        self.ask(relay, BATCH, raw("POST", BATCH, b"{} {}"), status=200)
        self.ask(relay, BATCH, raw("POST", BATCH, b"[{}"), status=400)
        self.ask(relay, BATCH, raw("POST", BATCH, b"x", Content_Encoding="gzip"), status=400)
        for path in (INGEST, BATCH):
            self.ask(relay, path, raw("POST", path, b"{}", Content_Type="text/plain"), status=415)
            self.ask(relay, path, raw("POST", path, b"{}", Content_Encoding="br"), status=415)

        def limited():
            body = json.dumps(event()).encode()
            self.ask(relay, INGEST, raw("POST", INGEST, body), "limited.sock")
            return (INGEST, "429") in self.seen

        wait_for(limited, "429")

    def provoke_of_any(self, relay, path):
        method = METHODS[path]
        good = raw(method, path)
        if path == STATUS:
            self.ask(relay, path, good, status=200)
        with socket.create_connection(("127.0.0.1", relay.port("http")), DEADLINE) as client:
            client.sendall(raw(method, path, Host=None))
            self.check(path, *self.reply_of(client))
        for name, request in (("host", raw(method, path, Host="evil.example")),
                              ("origin", raw(method, path, Origin="http://evil.example"))):
            with socket.create_connection(("127.0.0.1", relay.port("http")), DEADLINE) as client:
                client.sendall(request)
                body = self.check(path, *self.reply_of(client))
                self.assertEqual(body["reason"], name + "_not_allowed")
        body = self.ask(relay, path, good, "others.sock", 403)
        self.assertEqual(body["reason"], "peer_not_allowed")
        self.ask(relay, path, good, "tokens.sock", 401)
        self.ask(relay, path, raw("DELETE", path), status=405)
        self.ask(relay, path, raw(method, path, Content_Length=str(1 << 20)), status=413)
        self.ask(relay, path, raw(method, path, X="y" * 9000), status=431)
        template = "/lanes/{lane}" + path
        self.ask(relay, path, raw(method, "/lanes/none" + path), status=404, template=template)

    def provoke_503(self, relay, stack):
        part = raw("POST", BATCH, b"x" * 65_000)[:-1]
        cut = [stack.enter_context(connect(relay.path("http.sock"))) for _ in range(6)]
        for client in cut:  # of four bodies there is room, whichever are read first
            client.sendall(part)
        code = None
        while code != 503:
            ready, _, _ = select.select(cut, [], [], DEADLINE)
            self.assertTrue(ready, "503 while others wait")
            code, headers, body = self.reply_of(ready[0])
            self.check(BATCH, code, headers, body)
            cut.remove(ready[0])
        held = [stack.enter_context(connect(relay.path("http.sock")))
                for _ in range(CONNECTIONS_MAX)]
        self.assertEqual(len(held), CONNECTIONS_MAX)
        for path in METHODS:
            with connect(relay.path("http.sock")) as client:
                body = self.check(path, *self.reply_of(client))
                self.assertEqual(body["reason"], "too_many_connections")

    def test_whatever_is_asked_the_reply_is_in_the_document(self):
        relay = self.start()
        generator = random.Random(4711)
        refused = self.document.resolve(
            self.document.files[""]["components"]["schemas"]["Refused"])
        answered = 0
        for _ in range(400):
            path = generator.choice([INGEST, BATCH, STATUS, "/", "*", "//v1//ingest/batch/?x=y",
                                     "/lanes/default" + INGEST, "http://localhost" + INGEST])
            request = bytearray(raw(
                generator.choice(["POST", "GET", "HEAD", "PUT", "OPTIONS", "PATCH"]), path,
                generator.choice([b"{}", b"[]", b"", json.dumps(event()).encode(), b"[{},{}]"])))
            for _ in range(generator.choice([0, 0, 1, 3])):
                request[generator.randrange(len(request))] = generator.randrange(256)
            with connect(relay.path("http.sock")) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                try:
                    status, headers, body = self.reply_of(client, request.startswith(b"HEAD "))
                except (http.client.HTTPException, ConnectionError):
                    continue  # it could still have become a request
            answered += 1
            self.assertEqual(headers["Content-Type"], "application/json", request)
            self.assertNotIn(status // 100, (1, 3), request)
            if status != 200 and body:
                value = json.loads(body)
                if status not in (402, 429):
                    self.assertEqual(problems(refused, value), [], request)
                self.assertIn(status, (400, 402, 403, 404, 405, 413, 415, 431), request)
        self.assertGreater(answered, 200)
        self.assertTrue(relay.ready())

    def test_the_schema_of_an_event_is_the_one_of_what_is_stored(self):
        stored = self.document.files["event.schema.json"]
        component = self.document.files[""]["components"]["schemas"]["AppEvent"]
        self.assertEqual(component["properties"], {
            name: {"$ref": f"event.schema.json#/properties/{name}"}
            for name in stored["properties"]})
        app = self.document.resolve(component)
        accepted = [case for case in load("golden/outcomes.json")["cases"]
                    if case["outcome"] == "accepted"]
        self.assertGreater(len(accepted), 10)
        for case in accepted:
            self.assertEqual(problems(app, json.loads(case["output"])), [], case["file"])
        self.assertNotEqual(problems(app, {"provider": "openai"}), [])
        self.assertNotEqual(problems(app, event(inputTokens="742")), [])

    def test_lanes_have_the_replies_of_the_paths_without(self):
        for path, method in list(self.document.operations()):
            if not path.startswith("/lanes/"):
                self.assertIn(("/lanes/{lane}" + path, method), self.document.operations())


METHODS_OF = {**METHODS, **{"/lanes/{lane}" + path: method for path, method in METHODS.items()}}


if __name__ == "__main__":
    unittest.main(verbosity=1)
