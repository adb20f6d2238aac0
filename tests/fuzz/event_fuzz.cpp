// An event through the whole parser. Whatever is taken is taken again without a further repair;
// what needs no repair comes out byte for byte.
#include <algorithm>
#include <string>

#include "core/assert.h"
#include "fuzz/fuzz.h"
#include "parse/parser_fixture.h"

namespace opsrelay::fuzz {

namespace {

using parse::Field;

constexpr unsigned kRules = 18;

// The rules in all their combinations.
parse::Options options_for(unsigned rules) {
    parse::Options options;
    options.privacy.user_id = static_cast<parse::IdentityRule>(rules % 3);
    options.privacy.tenant_id = static_cast<parse::IdentityRule>(rules / 3 % 3);
    options.privacy.hash_key = "sixteen bytes or more";
    options.lift_tenant = rules / 9 == 0;
    options.model_aliases = {{"m", "model-m"}, {"gpt-4o", "gpt-4-o"}};
    options.defaults.push_back({{Field::environment, "staging"}, {Field::endpoint_tag, "t\"1\""}});
    return options;
}

void check_again(parse::EventParser& parser, const parse::Event& event) {
    const std::string json(event.json);
    const std::string id(event.id);
    OPSRELAY_ASSERT(json.find('\n') == std::string::npos);
    OPSRELAY_ASSERT(parser.parse(json, parse::kReceived + hours{1}, 1));
    const auto& again = parser.event();
    OPSRELAY_ASSERT(again.json == json);
    OPSRELAY_ASSERT(again.id == id);
    OPSRELAY_ASSERT((again.repairs & ~parse::kCountedOnly) == 0U);
    OPSRELAY_ASSERT(again.input_tokens == event.input_tokens);
    OPSRELAY_ASSERT(again.output_tokens == event.output_tokens);
    OPSRELAY_ASSERT(again.provider == event.provider);
    OPSRELAY_ASSERT(again.model == event.model);
    OPSRELAY_ASSERT(again.endpoint_tag == event.endpoint_tag);
    OPSRELAY_ASSERT(again.status == event.status);
}

}  // namespace

void one_input(std::string_view input) {
    const auto [rules, bytes] = choose(input, kRules);
    parse::ParserFixture first(options_for(rules));
    parse::ParserFixture second(options_for(rules));
    const std::string_view text = bytes;
    if (!first.parser.parse(text, parse::kReceived, 1)) {
        const auto& rejection = first.parser.rejection();
        OPSRELAY_ASSERT(!rejection.message.empty());
        OPSRELAY_ASSERT(rejection.payload.find('\n') == std::string_view::npos);
        return;
    }
    const auto& event = first.parser.event();
    if ((event.repairs & ~parse::kCountedOnly) == 0U) {
        std::string flat(text);
        std::replace_if(
            flat.begin(), flat.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
        OPSRELAY_ASSERT(event.json == flat);
    }
    check_again(second.parser, event);
}

}  // namespace opsrelay::fuzz
