// POST /v1/ingest/batch: forms, codings, limits, results and faults of items.
#include "upstream/batch.h"

#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include <string>
#include <vector>

#include "upstream/decode.h"
#include "upstream/service_fixture.h"

namespace opsrelay::upstream {

namespace {

constexpr std::string_view kNdjson = "application/x-ndjson";

std::string gzipped(std::string_view text) {
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(text.size() + 1000, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

std::string zstandard(std::string_view text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    const auto size = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3);
    REQUIRE_FALSE(ZSTD_isError(size));
    out.resize(size);
    return out;
}

std::string split(BatchForm form, std::string_view body, std::size_t items_max = 100) {
    const auto items = split_batch(form, body, items_max);
    if (!items) return items.error().context;
    std::string out;
    for (const auto item : *items) out.append(item).append("|");
    return out;
}

}  // namespace

TEST_CASE("upstream/batch: a JSON array is cut at its own commas") {
    struct Case {
        const char* name;
        const char* body;
        const char* items;
    };
    const Case cases[] = {
        {"empty", "[]", ""},
        {"empty with spaces", " [ \n ] ", ""},
        {"one", "[{\"a\":1}]", "{\"a\":1}|"},
        {"spaces", "\r\n[ {\"a\" : 1} ,\n{} ]\n", "{\"a\" : 1}|{}|"},
        {"commas inside", "[{\"a\":[1,2],\"b\":{\"c\":3,\"d\":4}},{}]",
         "{\"a\":[1,2],\"b\":{\"c\":3,\"d\":4}}|{}|"},
        {"marks in strings", "[{\"a]\":\"},{\\\"[\\\\\"},1]", "{\"a]\":\"},{\\\"[\\\\\"}|1|"},
        {"values that are no events", "[1,\"x,y\",null,[2,3]]", "1|\"x,y\"|null|[2,3]|"},
        {"trailing comma", "[1,]", "not JSON at byte 3: Invalid value."},
        {"two arrays", "[1][2]",
         "not JSON at byte 3: The document root must not be followed by other values."},
        {"cut off", "[{\"a\":1}",
         "not JSON at byte 8: Missing a comma or ']' after an array element."},
        {"nothing", "", "not JSON at byte 0: The document is empty."},
        {"an object", "{\"a\":1}",
         "not a JSON array; NDJSON needs Content-Type: application/x-ndjson"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        CHECK(split(BatchForm::array, test.body) == test.items);
    }
    CHECK(split(BatchForm::array, "[1,2,3,4,5]", 2) == "1|2|3|");
    CHECK(split(BatchForm::array, std::string(200'000, '[')).starts_with("not JSON"));
}

TEST_CASE("upstream/batch: NDJSON is cut at line feeds, empty lines are nothing") {
    CHECK(split(BatchForm::ndjson, "{}\n{ \"a\":1 }\r\n\n \n[x\n").compare("{}|{ \"a\":1 }|[x|") ==
          0);
    CHECK(split(BatchForm::ndjson, "{}\n{}") == "{}|{}|");
    CHECK(split(BatchForm::ndjson, "").empty());
    CHECK(split(BatchForm::ndjson, "1\n2\n3\n4", 2) == "1|2|3|");
}

TEST_CASE("upstream/batch: the content type says which form it is") {
    CHECK(batch_form("application/json") == BatchForm::array);
    CHECK(batch_form("Application/JSON ; charset=utf-8") == BatchForm::array);
    CHECK(batch_form("application/x-ndjson") == BatchForm::ndjson);
    CHECK(batch_form("application/jsonl") == BatchForm::ndjson);
    CHECK_FALSE(batch_form("text/plain").has_value());
    CHECK_FALSE(batch_form("").has_value());
}

TEST_CASE("upstream/decode: codings are undone within a limit") {
    const std::string text(100'000, 'x');
    constexpr auto kAll = BatchCodings::gzip_zstd;
    for (const std::size_t size : {0U, 1U, 32'768U, 65'536U, 100'000U}) {
        CAPTURE(size);
        const auto part = std::string_view(text).substr(0, size);
        CHECK(decode("gzip", gzipped(part), 100'000, kAll).bytes == part);
        CHECK(decode("zstd", zstandard(part), 100'000, kAll).bytes == part);
        CHECK(decode("Identity", part, 100'000, kAll).bytes == part);
        CHECK(decode("gzip", gzipped(part) + gzipped("tail"), 200'000, kAll).bytes ==
              std::string(part) + "tail");
        CHECK(decode("zstd", zstandard(part) + zstandard("tail"), 200'000, kAll).bytes ==
              std::string(part) + "tail");
    }
    struct Case {
        const char* name;
        const char* coding;
        std::string body;
        Decoding result;
    };
    const auto gzip = gzipped(text);
    const auto zstd = zstandard(text);
    const Case cases[] = {
        {"gzip bomb", "gzip", gzip, Decoding::too_large},
        {"zstd bomb", "zstd", zstd, Decoding::too_large},
        {"plain", "", text, Decoding::too_large},
        {"gzip cut off", "gzip", gzip.substr(0, gzip.size() - 5), Decoding::corrupt},
        {"zstd cut off", "zstd", zstd.substr(0, zstd.size() - 1), Decoding::corrupt},
        {"gzip and rubbish", "gzip", gzipped("x") + "rubbish", Decoding::corrupt},
        {"not gzip", "gzip", "[]", Decoding::corrupt},
        {"not zstd", "zstd", "[]", Decoding::corrupt},
        {"empty gzip", "gzip", "", Decoding::corrupt},
        {"empty zstd", "zstd", "", Decoding::corrupt},
        {"unknown", "br", "[]", Decoding::unsupported},
        {"two codings", "gzip, gzip", "[]", Decoding::unsupported},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        // A body that was cut off may be noticed as too large first: give it room.
        const auto room = test.result == Decoding::corrupt ? 200'000U : 50'000U;
        CHECK(decode(test.coding, test.body, room, kAll).result == test.result);
    }
    CHECK(decode("zstd", zstd, 200'000, BatchCodings::gzip).result == Decoding::unsupported);
    CHECK(decode("gzip", gzip, 200'000, BatchCodings::identity).result == Decoding::unsupported);
}

TEST_CASE("upstream/batch: every item has its result") {
    ServiceFixture api;
    const auto body = fmt::format("[{},{},{{\"externalRequestId\":\"c\"}},{},7]", event("a"),
                                  event("b"), event("a"));
    const auto reply = api.post_batch(body);
    CHECK(reply.status == 200);
    CHECK(reply.body == R"({"results":[{"index":0,"status":200,"reason":null},)"
                        R"({"index":1,"status":200,"reason":null},)"
                        R"({"index":2,"status":400,"reason":"validation_failed"},)"
                        R"({"index":3,"status":200,"reason":null},)"
                        R"({"index":4,"status":400,"reason":"validation_failed"}]})");
    CHECK(api.stat("rows") == 2);
    CHECK(api.stat("requests") == 1);
    CHECK(api.stat("batch_requests") == 1);
    CHECK(api.stat("batch_items") == 5);
    CHECK(api.stat("repeated") == 1);
    CHECK(api.stat("invalid") == 2);
    CHECK(api.stat("by_status/200") == 1);
    CHECK(api.stat("by_item_status/200") == 3);
    CHECK(api.stat("by_item_status/400") == 2);
    CHECK(api.service.rows().body(1) == event("b"));
    CHECK(api.post_batch("[]").body == R"({"results":[]})");
    const auto lines = event("d") + "\n\n" + event("e") + "\r\n";
    CHECK(api.post_batch(lines, kNdjson).body ==
          R"({"results":[{"index":0,"status":200,"reason":null},)"
          R"({"index":1,"status":200,"reason":null}]})");
    CHECK(api.post_batch(gzipped(event("f")), kNdjson, "gzip").status == 200);
    CHECK(api.stat("rows") == 5);
    // The two endpoints share their ids.
    CHECK(api.post(event("f")).status == 200);
    CHECK(api.stat("rows") == 5);
}

TEST_CASE("upstream/batch: a plan limit, a budget and a repeat are results of items") {
    ServiceFixture api(R"({"plan":{"limit":1},"duplicate_reply":"flagged"})");
    const auto body = fmt::format("[{},{}]", event("a"), event("b"));
    CHECK(api.post_batch(body).body ==
          R"({"results":[{"index":0,"status":200,"reason":null},)"
          R"({"index":1,"status":402,"reason":"plan_limit_reached"}]})");
    api.control(R"({"plan":{"limit":0}})");
    CHECK(api.post_batch(fmt::format("[{}]", event("a"))).body ==
          R"({"results":[{"index":0,"status":200,"reason":"duplicate"}]})");
    api.control(R"({"duplicate_reply":"status_409"})");
    CHECK(api.post_batch(fmt::format("[{}]", event("a"))).body ==
          R"({"results":[{"index":0,"status":409,"reason":"duplicate_request"}]})");
    api.control(R"({"budget":{"stop":"always","reason":"cap"}})");
    CHECK(api.post_batch(fmt::format("[{}]", event("c"))).body ==
          R"({"results":[{"index":0,"status":402,"reason":"cap"}]})");
}

TEST_CASE("upstream/batch: limits and forms are refused as a whole") {
    struct Case {
        const char* name;
        std::string body;
        const char* type;
        const char* coding;
        int status;
        const char* part;  // of the body
        const char* headers;
    };
    const auto three = fmt::format("[{0},{0},{0}]", event("x"));
    const Case cases[] = {
        {"three items", three, "application/json", "", 413, "too_many_items", ""},
        {"401 bytes", std::string(401, ' '), "application/json", "", 413, "payload_too_large", ""},
        {"401 bytes once decoded", gzipped(std::string(401, ' ')), "application/json", "gzip", 413,
         "payload_too_large", ""},
        {"no type", "[]", "", "", 415, "unsupported_media_type", ""},
        {"text", "[]", "text/plain", "", 415, "unsupported_media_type", ""},
        {"zstd", zstandard("[]"), "application/json", "zstd", 415, "unsupported_media_type",
         "Accept-Encoding: gzip\r\n"},
        {"not gzip", "[]", "application/json", "gzip", 400,
         R"([{"field":"body","message":"not the Content-Encoding it claims"}])", ""},
        {"not JSON", "[", "application/json", "", 400, R"([{"field":"body","message":"not JSON at)",
         ""},
    };
    ServiceFixture api(R"({"batch":{"items_max":2,"bytes_max":400}})");
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        const auto reply = api.post_batch(test.body, test.type, test.coding);
        CHECK(reply.status == test.status);
        CHECK(reply.body.find(test.part) != std::string::npos);
        CHECK(reply.extra_headers == test.headers);
    }
    CHECK(api.stat("rows") == 0);
    api.control(R"({"batch":{"codings":"gzip_zstd","items_max":3,"bytes_max":300},)"
                R"("validation_status":422})");
    CHECK(api.post_batch(zstandard(three), "application/json", "zstd").status == 413);
    api.control(R"({"batch":{"bytes_max":1000}})");
    CHECK(api.post_batch(zstandard(three), "application/json", "zstd").status == 200);
    CHECK(api.post_batch("{", "application/json").status == 422);
}

TEST_CASE("upstream/batch: items fail by script and by rate") {
    ServiceFixture api(R"({"item_script":["ok","429",{"fault":"400","reason":"odd"},"402_plan",)"
                       R"({"fault":"402_budget","reason":"cap"},"409"]})");
    std::string body;
    for (const auto* id : {"a", "b", "c", "d", "e", "f", "g"}) body += event(id) + '\n';
    CHECK(api.post_batch(body, kNdjson).body ==
          R"({"results":[{"index":0,"status":200,"reason":null},)"
          R"({"index":1,"status":429,"reason":"rate_limited"},)"
          R"({"index":2,"status":400,"reason":"odd"},)"
          R"({"index":3,"status":402,"reason":"plan_limit_reached"},)"
          R"({"index":4,"status":402,"reason":"cap"},)"
          R"({"index":5,"status":409,"reason":"duplicate_request"},)"
          R"({"index":6,"status":200,"reason":null}]})");
    CHECK(api.stat("rows") == 3);  // a, f, g: a 409 was stored by "another" request
    api.control(R"({"item_rates":{"503":1000}})");
    CHECK(api.post_batch(fmt::format("[{}]", event("h"))).body ==
          R"({"results":[{"index":0,"status":503,"reason":"unavailable"}]})");
    api.control(R"({"item_rates":{},"item_script":["409"]})");
    CHECK(api.post_batch("[{}]").body ==
          R"({"results":[{"index":0,"status":400,"reason":"validation_failed"}]})");
    CHECK(api.post(event("h")).status == 200);  // single requests have no items
}

TEST_CASE("upstream/batch: faults of requests hit batches, too") {
    const auto body = fmt::format("[{},{},{}]", event("a"), event("b"), event("c"));
    struct Case {
        const char* fault;
        int status;
        const char* body;
        int rows;
    };
    const Case cases[] = {
        {"503", 503, R"({"ok":false,"reason":"unavailable","warnings":[]})", 0},
        {"413", 413, R"({"ok":false,"reason":"payload_too_large","warnings":[]})", 0},
        {"200_empty", 200, "", 3},
        {"409", 409, R"({"ok":false,"reason":"duplicate_request","warnings":[]})", 3},
        {"results_missing", 200, R"({"results":[{"index":0,"status":200,"reason":null}]})", 3},
        {"results_reversed", 200,
         R"({"results":[{"index":2,"status":200,"reason":null},)"
         R"({"index":1,"status":200,"reason":null},{"index":0,"status":200,"reason":null}]})",
         3},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.fault));
        ServiceFixture api(fmt::format(R"({{"script":["{}"]}})", test.fault));
        const auto reply = api.post_batch(body);
        CHECK(reply.status == test.status);
        CHECK(reply.body == test.body);
        CHECK(api.stat("rows") == test.rows);
        CHECK(api.stat(fmt::format("by_fault/{}", test.fault)) == 1);
    }
    ServiceFixture api(R"({"script":["reset_after_commit","results_missing"]})");
    CHECK(api.post_batch(body).delivery == Delivery::reset);
    CHECK(api.stat("rows") == 3);
    CHECK(api.post(event("a")).status == 200);  // nothing to reverse or lose in a single reply
}

TEST_CASE("upstream/batch: the key comes first") {
    ServiceFixture api(R"({"api_keys":["other"]})");
    CHECK(api.post_batch("[]").status == 401);
}

}  // namespace opsrelay::upstream
