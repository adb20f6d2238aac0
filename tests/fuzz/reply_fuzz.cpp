// What an upstream may answer: read at once and byte by byte alike, and both ways to read the
// fields of a JSON body agree.
#include <string>

#include "core/assert.h"
#include "forward/batch_reply.h"
#include "forward/http_date.h"
#include "forward/reply_fields.h"
#include "forward/reply_reader.h"
#include "forward/retry.h"
#include "fuzz/fuzz.h"

namespace opsrelay::fuzz {

namespace {

using namespace opsrelay::forward;

constexpr WallTime kNow{milliseconds{1'777'863'721'007}};

struct Outcome {
    ReplyReader::State state = ReplyReader::State::more;
    Reply reply;
};

Outcome read(std::string_view bytes, std::size_t chunk) {
    ReplyReader reader;
    reader.begin();
    Outcome outcome;
    std::string waiting;
    for (std::size_t at = 0; at < bytes.size() && outcome.state == ReplyReader::State::more;
         at += chunk) {
        waiting += bytes.substr(at, chunk);
        const auto progress = reader.feed(waiting);
        OPSRELAY_ASSERT(progress.used <= waiting.size());
        waiting.erase(0, progress.used);
        outcome.state = progress.state;
    }
    if (outcome.state == ReplyReader::State::more) outcome.state = reader.end(true);
    OPSRELAY_ASSERT(outcome.state != ReplyReader::State::more);
    if (outcome.state == ReplyReader::State::failed) {
        OPSRELAY_ASSERT(reader.error().failed());
        return outcome;
    }
    outcome.reply = reader.take();
    OPSRELAY_ASSERT(outcome.reply.body.size() <= kReplyBodyMax);
    return outcome;
}

void check_fields(std::string_view body) {
    const auto fields = read_fields(body);
    OPSRELAY_ASSERT(fields == parse_fields(body));
    const auto scanned = scan_fields(body);
    OPSRELAY_ASSERT(!scanned || scanned == fields);
}

void check_times(std::string_view text) {
    static_cast<void>(parse_http_date(text, kNow));
    static_cast<void>(parse_iso8601(text));
    for (const auto date : {std::optional<std::string_view>{}, std::optional{text}}) {
        const auto wait = parse_retry_after(text, date, kNow);
        OPSRELAY_ASSERT(!wait || (*wait >= milliseconds{0} && *wait <= kRetryAfterMax));
    }
}

void check_verdict(const Reply& reply) {
    const auto decision = classify(reply, kNow);
    OPSRELAY_ASSERT(!decision.retry_after || *decision.retry_after <= kRetryAfterMax);
    OPSRELAY_ASSERT(!decision.plan.plan_tier || decision.plan.plan_tier->size() <= 64);
    static_cast<void>(read_workspace_status(reply));
    OPSRELAY_ASSERT(describe_code(reply).size() <= 16);
    constexpr std::size_t kEvents = 3;
    if (const auto each = read_batch_reply(reply, kEvents)) {
        OPSRELAY_ASSERT(each->size() == kEvents);
        for (const auto& one : *each) static_cast<void>(classify(one, kNow));
    }
}

}  // namespace

void one_input(std::string_view input) {
    const auto [choice, bytes] = choose(input, 251);
    check_fields(bytes);
    check_times(bytes);
    const auto whole = read(bytes, bytes.size() + 1);
    const auto parts = read(bytes, choice + 1);
    OPSRELAY_ASSERT(whole.state == parts.state);
    OPSRELAY_ASSERT(whole.reply.status == parts.reply.status);
    OPSRELAY_ASSERT(whole.reply.body == parts.reply.body);
    if (whole.state == ReplyReader::State::done) check_verdict(whole.reply);
    Reply plain;
    plain.status = 200 + static_cast<int>(choice) * 2;
    plain.body = std::string(bytes.substr(0, kReplyBodyMax));
    plain.retry_after = plain.body;
    check_verdict(plain);
}

}  // namespace opsrelay::fuzz
