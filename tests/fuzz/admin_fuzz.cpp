// Requests over admin.sock: decoded within their limits or refused with a reason; an edited event
// stays JSON.
#include <string>

#include "core/assert.h"
#include "fuzz/fuzz.h"
#include "operate/dead_json.h"
#include "operate/event_edit.h"
#include "operate/request.h"

namespace opsrelay::fuzz {

namespace {

using namespace opsrelay::operate;

void edit(std::string_view input) {
    const auto cut = input.find('\0');
    const auto event = input.substr(0, cut);
    const auto value = cut == std::string_view::npos ? "1" : input.substr(cut + 1);
    const auto edited = set_fields(event, {{"model", std::string(value)}, {"k\"", "null"}});
    if (!edited) {
        OPSRELAY_ASSERT(!edited.error().context.empty());
        return;
    }
    OPSRELAY_ASSERT(is_json(event));
    OPSRELAY_ASSERT(is_json(value));
    OPSRELAY_ASSERT(is_json(*edited));
    const auto again = set_fields(*edited, {{"model", std::string(value)}, {"k\"", "null"}});
    OPSRELAY_ASSERT(again.has_value());
    OPSRELAY_ASSERT(*again == *edited);
}

void decode(std::string_view input) {
    const auto request = parse_request(input);
    if (!request) {
        OPSRELAY_ASSERT(!request.error().context.empty());
        return;
    }
    OPSRELAY_ASSERT(request->keys.size() <= kLettersMax);
    OPSRELAY_ASSERT(request->limit <= kLettersMax);
    OPSRELAY_ASSERT(request->ends.size() <= kEndsMax);
    for (const auto& [field, value] : request->set) OPSRELAY_ASSERT(is_json(value));
    for (const auto& key : request->keys) {
        const auto text = to_text(key);
        OPSRELAY_ASSERT(parse_key(text).has_value());
        OPSRELAY_ASSERT(to_text(*parse_key(text)) == text);
    }
}

}  // namespace

void one_input(std::string_view input) {
    const auto [choice, bytes] = choose(input, 2);
    if (choice == 0) {
        decode(bytes);
    } else {
        edit(bytes);
    }
}

}  // namespace opsrelay::fuzz
