// Bodies of batch requests, and their replies taken apart.
#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include <string>
#include <vector>

#include "forward/batch_body.h"
#include "forward/batch_reply.h"
#include "forward/retry.h"

namespace opsrelay::forward {

namespace {

std::string gunzip(std::string body) {
    z_stream stream{};
    REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);
    std::string out(1U << 20U, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(body.data());
    stream.avail_in = static_cast<uInt>(body.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    inflateEnd(&stream);
    return out;
}

std::string unzstd(const std::string& body) {
    // Receivers that bound what they unpack read it here.
    CHECK(ZSTD_getFrameContentSize(body.data(), body.size()) < (1U << 20U));
    std::string out(1U << 20U, '\0');
    const auto size = ZSTD_decompress(out.data(), out.size(), body.data(), body.size());
    REQUIRE_FALSE(ZSTD_isError(size));
    out.resize(size);
    return out;
}

Reply reply_of(std::string body) {
    Reply reply;
    reply.status = 200;
    reply.body = std::move(body);
    return reply;
}

std::vector<Verdict> verdicts(const Reply& reply, std::size_t count) {
    const auto replies = read_batch_reply(reply, count);
    REQUIRE(replies.has_value());
    REQUIRE(replies->size() == count);
    std::vector<Verdict> found;
    for (const auto& one : *replies) found.push_back(classify(one, WallTime{}).verdict);
    return found;
}

}  // namespace

TEST_CASE("forward/batch_body: events as lines or as an array, packed or not") {
    const std::vector<std::string_view> events{R"({"a":1})", R"({"b":"x"})"};
    const std::string lines = "{\"a\":1}\n{\"b\":\"x\"}\n";
    const std::string array = R"([{"a":1},{"b":"x"}])";
    CHECK(encode_batch(events, BatchFormat::ndjson, BatchCoding::none) == lines);
    CHECK(encode_batch(events, BatchFormat::array, BatchCoding::none) == array);
    CHECK(gunzip(encode_batch(events, BatchFormat::ndjson, BatchCoding::gzip)) == lines);
    CHECK(gunzip(encode_batch(events, BatchFormat::array, BatchCoding::gzip)) == array);
    CHECK(unzstd(encode_batch(events, BatchFormat::ndjson, BatchCoding::zstd)) == lines);
    CHECK(unzstd(encode_batch(events, BatchFormat::array, BatchCoding::zstd)) == array);
    const std::vector<std::string_view> one(1, events[0]);
    CHECK(encode_batch(one, BatchFormat::array, BatchCoding::none) == R"([{"a":1}])");
    CHECK(batch_headers(BatchFormat::ndjson, BatchCoding::gzip) ==
          "Content-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\n");
    CHECK(batch_headers(BatchFormat::array, BatchCoding::zstd) ==
          "Content-Type: application/json\r\nContent-Encoding: zstd\r\n");
    CHECK(batch_headers(BatchFormat::array, BatchCoding::none) ==
          "Content-Type: application/json\r\n");
}

TEST_CASE("forward/batch_body: a large batch is packed and unpacked, whatever the coding") {
    std::vector<std::string> texts;
    for (int i = 0; i < 2000; ++i)
        texts.push_back(R"({"externalRequestId":")" + std::to_string(i * 7919) + "\"}");
    const std::vector<std::string_view> events(texts.begin(), texts.end());
    const auto plain = encode_batch(events, BatchFormat::ndjson, BatchCoding::none);
    const auto gzip = encode_batch(events, BatchFormat::ndjson, BatchCoding::gzip);
    const auto zstd = encode_batch(events, BatchFormat::ndjson, BatchCoding::zstd);
    CHECK(gunzip(gzip) == plain);
    CHECK(unzstd(zstd) == plain);
    CHECK(gzip.size() < plain.size() / 2);
    CHECK(zstd.size() < plain.size() / 2);
}

TEST_CASE("forward/batch_reply: each event gets the verdict of its result, in any order") {
    const auto reply =
        reply_of(R"({"results":[{"index":6,"status":413,"reason":"too_large"},)"
                 R"({"index":0,"status":200,"reason":null},)"
                 R"({"index":1,"status":400,"reason":"validation_failed"},)"
                 R"({"index":2,"status":409,"reason":null},)"
                 R"({"index":3,"status":402,"reason":"plan_limit_reached"},)"
                 R"({"index":4,"status":429,"reason":"rate_limited"},)"
                 R"({"index":5,"status":503,"reason":null},)"
                 R"({"index":7,"status":200,"ok":false,"reason":"invalid_api_key"}]})");
    const std::vector<Verdict> expected{
        Verdict::delivered, Verdict::rejected, Verdict::delivered, Verdict::plan_limited,
        Verdict::throttled, Verdict::backoff,  Verdict::rejected,  Verdict::unauthorized};
    CHECK(verdicts(reply, 8) == expected);
    const auto replies = *read_batch_reply(reply, 8);
    CHECK(replies[1].body == R"({"index":1,"status":400,"reason":"validation_failed"})");
    CHECK(replies[0].body.empty());
}

TEST_CASE("forward/batch_reply: an event without a usable result is sent again") {
    const char* const bodies[] = {
        R"({"results":[]})",
        R"({"results":[{"index":1,"status":200}]})",
        R"({"results":[{"index":-1,"status":200},{"index":"0","status":200},7,null]})",
        R"({"results":[{"index":0,"status":20}]})",
        R"({"results":[{"index":0,"status":1000}]})",
        R"({"results":[{"index":0}]})",
    };
    for (const auto* const body : bodies) {
        CAPTURE(body);
        CHECK(verdicts(reply_of(body), 1) == std::vector{Verdict::backoff});
    }
    auto cut = reply_of(R"({"results":[{"index":0,"status":200})");
    cut.body_cut = true;  // what came first cannot be told from what is not there
    CHECK(verdicts(cut, 2) == std::vector{Verdict::backoff, Verdict::backoff});
}

TEST_CASE("forward/batch_reply: of two results the first counts; a wait holds for all") {
    auto reply = reply_of(R"({"results":[{"index":0,"status":429},{"index":0,"status":200},)"
                          R"({"index":1,"status":429}]})");
    reply.retry_after = "7";
    const auto replies = *read_batch_reply(reply, 2);
    for (const auto& one : replies) {
        const auto decision = classify(one, WallTime{});
        CHECK(decision.verdict == Verdict::throttled);
        CHECK(decision.retry_after == seconds{7});
    }
}

TEST_CASE("forward/batch_reply: what has no results is not the batch endpoint") {
    for (const auto* const body :
         {"", "{}", "[]", "<html>", R"({"results":{}})", R"({"ok":true})"}) {
        CAPTURE(body);
        CHECK_FALSE(read_batch_reply(reply_of(body), 1).has_value());
    }
    CHECK_FALSE(read_batch_reply(reply_of(std::string(100'000, '[')), 1).has_value());
}

}  // namespace opsrelay::forward
