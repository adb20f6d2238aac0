// POST /v1/ingest/batch: several events in one request.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <vector>

#include "listen/http_batch.h"
#include "listen/packed.h"
#include "listen/world.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

struct BatchWorld : World {
    BatchWorld() {
        add(ListenerKind::http);
        inlet.settle_at_once = true;
    }
    std::string post(const std::string& body, const std::string& headers,
                     const std::string& target = "/v1/ingest/batch") {
        if (!client) client.emplace(SOCK_STREAM, address());
        client->received.clear();
        client->send(*this, "POST " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers +
                                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                                body);
        run_until([&] {
            client->read();
            const auto& text = client->received;
            const auto at = text.find("Content-Length: ");
            const auto end = text.find("\r\n\r\n");
            if (at == std::string::npos || end == std::string::npos) return client->closed();
            return text.size() >= end + 4 + std::stoul(text.substr(at + 16));
        });
        return client->received;
    }
    std::optional<Client> client;
};

const std::string kLines = "Content-Type: application/x-ndjson\r\n";
const std::string kArray = "Content-Type: application/json; charset=utf-8\r\n";
const std::string kGzip = "Content-Encoding: gzip\r\n";
const std::string kZstd = "Content-Encoding: zstd\r\n";

int status_of(const std::string& reply) { return std::stoi(reply.substr(9, 3)); }

std::string body_of(const std::string& reply) { return reply.substr(reply.find("\r\n\r\n") + 4); }

using Views = std::vector<std::string_view>;

}  // namespace

TEST_CASE("listen/http_batch: lines and arrays are cut into their events") {
    CHECK(split_batch(BatchForm::ndjson, "{\"a\":1}\n\n  {\"b\":2}\r\n{\"c\":3}") ==
          Views{"{\"a\":1}", "{\"b\":2}", "{\"c\":3}"});
    CHECK(split_batch(BatchForm::ndjson, "\n \r\n") == Views{});
    CHECK(split_batch(BatchForm::array, R"( [ {"a":"],}"} , 7,[1,{"x":[]}],"\",\\" ] )") ==
          Views{R"({"a":"],}"})", "7", R"([1,{"x":[]}])", R"("\",\\")"});
    CHECK(split_batch(BatchForm::array, "[]") == Views{});
    CHECK(split_batch(BatchForm::array, " {\"a\":1} ") == Views{"{\"a\":1}"});
    for (const auto* const bad : {"", "7", "[", "[1,]", "[1]]", "[1 2]", "\"x\"", "[{]"}) {
        CAPTURE(bad);
        CHECK_FALSE(split_batch(BatchForm::array, bad).has_value());
    }
    CHECK(complaint_about_array("7") ==
          "must be a JSON array; one event a line is Content-Type: application/x-ndjson");
    CHECK(complaint_about_array(" [1,]").ends_with("at byte 3, counted from its ["));
    CHECK(complaint_about_array("[{}").ends_with("at byte 3, counted from its ["));
    CHECK(complaint_about_array(std::string_view("[1]\0", 4)) ==
          "not a whole JSON array: NUL at byte 3, counted from its [");
    CHECK(complaint_about_array("\xEF\xBB\xBF[]").starts_with("begins with a byte order mark"));
    // RapidJSON takes a NUL for the end.
    CHECK_FALSE(split_batch(BatchForm::array, std::string("[1]\0,2]", 7)).has_value());
    CHECK_FALSE(split_batch(BatchForm::array, std::string(100'000, '[')).has_value());
    std::string many;
    for (std::size_t i = 0; i < kBatchEventsMax + 5; ++i) many += "{}\n";
    CHECK(split_batch(BatchForm::ndjson, many)->size() == kBatchEventsMax + 1);
}

TEST_CASE("listen/http_batch: every event gets a result of its own, in order") {
    BatchWorld world;
    world.start();
    const std::string expected =
        R"({"results":[{"index":0,"status":200,"reason":null},)"
        R"({"index":1,"status":400,"reason":"not_json"},{"index":2,"status":200,"reason":null},)"
        R"({"index":3,"status":503,"reason":"memory_full"},)"
        R"({"index":4,"status":413,"reason":"too_large"}]})";
    const std::string large(70'000, 'x');
    const auto reply = world.post("{}\nbad\ndup\nshed\n" + large + "\n", kLines);
    CHECK(status_of(reply) == 200);
    CHECK(body_of(reply) == expected);
    CHECK(world.inlet.recorded.size() == 5);
    CHECK(body_of(world.post(R"([{"a":1},{"b":2}])", kArray, "/any/prefix/v1/ingest/batch/")) ==
          R"({"results":[{"index":0,"status":200,"reason":null},)"
          R"({"index":1,"status":200,"reason":null}]})");
    CHECK(body_of(world.post(gzip("{}\n{}\n"), kLines + kGzip)) ==
          R"({"results":[{"index":0,"status":200,"reason":null},)"
          R"({"index":1,"status":200,"reason":null}]})");
    CHECK(body_of(world.post(zstd("[{},{}]"), kArray + kZstd)) ==
          R"({"results":[{"index":0,"status":200,"reason":null},)"
          R"({"index":1,"status":200,"reason":null}]})");
    CHECK(body_of(world.post("", kLines)) == R"({"results":[]})");
}

TEST_CASE("listen/http_batch: a batch is larger than an event, and taken a burst at a time") {
    BatchWorld world;
    world.start();
    std::string lines;
    for (int i = 0; i < 5000; ++i) lines += R"({"n":)" + std::to_string(i) + "}\n";
    REQUIRE(lines.size() > kEventBytesMax.count / 2);
    const auto reply = world.post(lines + lines, kLines);
    CHECK(status_of(reply) == 200);
    CHECK(world.inlet.recorded.size() == 10'000);
    CHECK(world.inlet.largest_burst <= 256);
    const auto more = world.post(lines + lines + "{}\n", kLines);
    CHECK(status_of(more) == 413);
    CHECK(more.find("at most 10000 events") != std::string::npos);
}

TEST_CASE("listen/http_batch: nothing is confirmed that is not durable") {
    BatchWorld world;
    world.inlet.settle_at_once = false;
    world.options.http_ack_timeout = milliseconds{20};
    world.start();
    const auto reply = world.post("{}\nbad\n{}\n", kLines);
    CHECK(body_of(reply) == R"({"results":[{"index":0,"status":503,"reason":"not_confirmed"},)"
                            R"({"index":1,"status":400,"reason":"not_json"},)"
                            R"({"index":2,"status":503,"reason":"not_confirmed"}]})");
    world.inlet.give_up(4);
    CHECK(body_of(world.post("{}\n{}\n", kLines)) ==
          R"({"results":[{"index":0,"status":503,"reason":"given_up"},)"
          R"({"index":1,"status":503,"reason":"given_up"}]})");
}

TEST_CASE("listen/http_batch: a request that is no batch is refused, and counted once") {
    BatchWorld world;
    world.options.http_body_max = 64_KiB;
    world.start();
    struct Case {
        std::string body;
        std::string headers;
        int status;
    };
    const Case cases[] = {
        {"bad [1,2", kArray, 400},
        {"bad", kLines + kGzip, 400},
        {gzip(std::string(100'000, 'x')), kLines + kGzip, 413},
        {"bad", kLines + kZstd, 400},
        {zstd(std::string(100'000, 'x')), kLines + kZstd, 413},
        {std::string(66'000, 'x'), kLines, 413},
    };
    std::size_t counted = 0;
    for (const auto& one : cases) {
        CAPTURE(one.body.substr(0, 20));
        CHECK(status_of(world.post(one.body, one.headers)) == one.status);
        CHECK(world.inlet.recorded.size() == ++counted);
        if (world.client->closed()) world.client.reset();
    }
    // Whose head says so.
    CHECK(status_of(world.post("{}", "Content-Type: text/csv\r\n")) == 415);
    world.client.reset();
    CHECK(status_of(world.post("{}", kLines + "Content-Encoding: br\r\n")) == 415);
    CHECK(world.inlet.recorded.size() == counted);
}

TEST_CASE("listen/http_batch: batches that arrive at once share a bound on their memory") {
    BatchWorld world;
    world.options.http_body_max = 1_MiB;
    world.start();
    // Each has said that much and sent all but its end.
    const std::string part(900U << 10U, ' ');
    std::vector<Client> clients;
    for (int i = 0; i < 5; ++i) {
        auto& client = clients.emplace_back(SOCK_STREAM, world.address());
        client.send(world, "POST /v1/ingest/batch HTTP/1.1\r\nHost: localhost\r\n" + kLines +
                               "Content-Length: " + std::to_string(part.size() + 3) + "\r\n\r\n");
        client.send(world, part);
    }
    const auto answered = [](Client& client) {
        client.read();
        return client.received.find("\r\n\r\n") != std::string::npos;
    };
    auto refused = clients.end();
    world.run_until([&] {
        refused = std::find_if(clients.begin(), clients.end(), answered);
        return refused != clients.end();
    });
    CHECK(status_of(refused->received) == 503);
    CHECK(refused->received.find("\"memory_full\"") != std::string::npos);
    for (auto client = clients.begin(); client != clients.end(); ++client) {
        if (client == refused) continue;
        client->send(world, "{}\n");
        client->expect(world, R"({"results":[{"index":0,"status":200,"reason":null}]})");
    }
}
