"""Sends events as the official Python SDK does: `sdk_client.py STACK URL` reads ids, one a line,
and prints for every attempt {"id":…,"status":…,"ok":…} (0: no answer), until all are sent.

STACK: `urllib`, as the SDK, a connection for every event; `requests`, likewise; `session`, requests
with connections that are kept; or the path of the official package's wheel, which then does the
sending. The others send 50 at a time, wait 0.6 s for an answer, and send the same event again
0.4 s, 0.8 s, ... after a failure."""

import concurrent.futures
import json
import sys
import threading
import time
import urllib.error
import urllib.request

PARALLEL = 50
TIMEOUT = 0.6
RETRIES = 7  # the SDK's default of 2 would make slow machines lose events
HEADERS = {"Content-Type": "application/json", "X-API-Key": "any"}

open_ids = set()
lock = threading.Lock()


def note(event_id, status, ok):
    with lock:
        print(json.dumps({"id": event_id, "status": status, "ok": ok}), flush=True)
        if ok:
            open_ids.discard(event_id)


def payload(event_id):
    return json.dumps({
        "externalRequestId": event_id, "provider": "openai", "model": "gpt-4o-mini",
        "promptVersion": "unknown", "endpointTag": "sdk.unknown", "inputTokens": 742,
        "outputTokens": 96, "totalTokens": 838, "latencyMs": 12, "status": "success",
        "errorCode": None, "userId": None, "dataMode": "real", "environment": "prod",
        "metadata": {"operation": "chat.completions.create", "tenantId": None, "endpoint": None,
                     "feature": None, "providerRequestId": None, "sdkLanguage": "python"},
    }).encode()


def with_urllib(url, body):
    request = urllib.request.Request(url, data=body, headers=HEADERS, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def with_requests(post):
    def one(url, body):
        reply = post(url, data=body, headers=HEADERS, timeout=TIMEOUT)
        return reply.status_code, reply.content
    return one


def send(exchange, url, event_id):
    for attempt in range(RETRIES + 1):
        try:
            status, body = exchange(url, payload(event_id))
        except OSError:  # requests' errors are OSErrors too
            status, body = 0, b"null"
        json.loads(body)  # always JSON, errors too
        note(event_id, status, 200 <= status < 300)
        if 200 <= status < 300:
            return
        time.sleep(0.4 * 2 ** attempt)


def with_stack(stack, url, ids):
    if stack == "urllib":
        exchange = with_urllib
    else:
        import requests  # not a part of Python
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL))
        exchange = with_requests(requests.post if stack == "requests" else session.post)
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        for done in [pool.submit(send, exchange, url + "/v1/ingest/llm-request", one)
                     for one in ids]:
            done.result()


def with_sdk(wheel, url, ids):
    sys.path.insert(0, wheel)
    import opsmeter_sdk
    opsmeter_sdk.init(
        api_key="any", telemetry_base_url=url, max_retries=RETRIES,
        on_telemetry_result=lambda result, sent: note(sent["externalRequestId"], result["status"],
                                                      result["ok"]))
    reply = {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 742, "completion_tokens": 96}}
    for one in ids:
        with opsmeter_sdk.context(external_request_id=one, tenant_id="acme"):
            opsmeter_sdk.capture_openai_chat_completion(lambda: reply)
    end = time.monotonic() + 120
    while open_ids and time.monotonic() < end:
        time.sleep(0.02)


def main(stack, url):
    ids = sys.stdin.read().split()
    open_ids.update(ids)
    (with_sdk if stack.endswith(".whl") else with_stack)(stack, url, ids)
    return 0 if not open_ids else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
