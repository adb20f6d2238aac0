#include "config/event_rules.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "config/keys.h"
#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;

namespace {

Config from(const std::string& text) {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.file = write_file(dir, text);
    auto config = load_config(sources);
    REQUIRE_MESSAGE(config.has_value(), config.error().context);
    return *std::move(config);
}

std::string refusal(const std::string& text) {
    const auto said = complaint(text);
    const auto space = said.find(' ');
    return said.empty() ? said : said.substr(space + 1);
}

struct Case {
    const char* name;
    std::string text;
    std::string complaint;
};

}  // namespace

TEST_CASE("config/event_rules: denied fields are a list of keys without a rule") {
    CHECK(from("").events.privacy.deny_fields ==
          std::vector<std::string>{"prompt", "messages", "input", "output", "completion",
                                   "response", "content", "text"});
    CHECK(from("privacy: {deny_fields: []}\n").events.privacy.deny_fields.empty());
    CHECK(from("privacy: {deny_fields: [Note, \"a b\"]}\n").events.privacy.deny_fields ==
          std::vector<std::string>{"Note", "a b"});
    std::string many;
    for (std::size_t i = 0; i <= kDenyFieldsMax; ++i) many += fmt::format("k{}, ", i);
    const Case cases[] = {
        {"no list", "privacy: {deny_fields: prompt}\n",
         "privacy.deny_fields: must be a list; [] for none"},
        {"null", "privacy: {deny_fields: null}\n",
         "privacy.deny_fields: must be a list; [] for none"},
        {"a list in it", "privacy: {deny_fields: [[a]]}\n", "privacy.deny_fields: needs one value"},
        {"empty", "privacy: {deny_fields: [\"\"]}\n",
         "privacy.deny_fields: \"\" must have 1 to 256 bytes"},
        {"too long", "privacy: {deny_fields: [" + std::string(257, 'x') + "]}\n",
         "privacy.deny_fields: \"" + std::string(257, 'x') + "\" must have 1 to 256 bytes"},
        {"a field of the contract", "privacy: {deny_fields: [Model]}\n",
         "privacy.deny_fields: Model is a field with a rule of its own and is never removed"},
        {"an identity", "privacy: {deny_fields: [userid]}\n",
         "privacy.deny_fields: userid is a field with a rule of its own; use privacy.user_id or "
         "privacy.tenant_id: drop"},
        {"too many", "privacy: {deny_fields: [" + many + "]}\n",
         "privacy.deny_fields: 257 is outside [0, 256]"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(refusal(test.text) == test.complaint);
    }
}

TEST_CASE("config/event_rules: model aliases are a map in one step") {
    const auto config = from("events: {model_aliases: {gpt-4.1: gpt-4-1, \"a b\": c}}\n");
    CHECK(config.events.model_aliases.find("gpt-4.1")->second == "gpt-4-1");
    CHECK(config.events.model_aliases.size() == 2);
    CHECK(from("events: {model_aliases: {}}\n").events.model_aliases.empty());
    std::string many;
    for (std::size_t i = 0; i <= kModelAliasesMax; ++i) many += fmt::format("k{}: v, ", i);
    const Case cases[] = {
        {"no map", "events: {model_aliases: [a]}\n",
         "events.model_aliases: must be a map of model names, such as {gpt-4.1: gpt-4-1}"},
        {"no text", "events: {model_aliases: {a: [b]}}\n", "events.model_aliases: needs one value"},
        {"empty", "events: {model_aliases: {a: \"\"}}\n",
         "events.model_aliases: \"\" must have 1 to 256 bytes"},
        {"white space", "events: {model_aliases: {a: \"b \"}}\n",
         "events.model_aliases: \"b \" has white space at its ends"},
        {"control character", "events: {model_aliases: {\"a\\tb\": c}}\n",
         "events.model_aliases: \"a\tb\" contains a control character"},
        {"chain", "events: {model_aliases: {a: b, b: c}}\n",
         "events.model_aliases: a becomes b, which is itself an alias; name the last one"},
        {"itself", "events: {model_aliases: {a: a}}\n",
         "events.model_aliases: a becomes a, which is itself an alias; name the last one"},
        {"too many", "events: {model_aliases: {" + many + "}}\n",
         "events.model_aliases: 1001 is outside [0, 1000]"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(refusal(test.text) == test.complaint);
    }
}

TEST_CASE("config/event_rules: a listener's defaults are fields that do not name or price a call") {
    const auto config = from(
        "listeners:\n  - {type: unix_stream, path: a}\n"
        "  - {type: unix_stream, path: b, defaults: {environment: staging, tenantId: t-1}}\n"
        "  - {type: udp, address: \"127.0.0.1:0\", defaults: {dataMode: test}}\n");
    CHECK(config.listen.listeners[0].defaults == 0);
    REQUIRE(config.listen.listeners[1].defaults == 1);
    REQUIRE(config.listen.listeners[2].defaults == 2);
    REQUIRE(config.events.defaults.size() == 2);
    CHECK(config.events.defaults[0][1].field == parse::Field::tenant_id);
    CHECK(config.events.defaults[0][1].value == "t-1");
    const auto with = [](const char* defaults) {
        return fmt::format("listeners: [{{type: unix_stream, path: a, defaults: {}}}]\n", defaults);
    };
    const Case cases[] = {
        {"no map", with("staging"),
         "listeners[0].defaults: must be a map, such as {environment: staging}"},
        {"unknown name", with("{environment: production}"),
         "listeners[0].defaults.environment: \"production\" is not known; allowed: prod, staging, "
         "dev"},
        {"other case", with("{dataMode: Test}"),
         "listeners[0].defaults.dataMode: \"Test\" is not known; allowed: real, test, demo"},
        {"a field that names the call", with("{model: m}"),
         "listeners[0].defaults.model: has no default; allowed: dataMode, environment, "
         "endpointTag, promptVersion, tenantId, featureTag"},
        {"a user", with("{userId: u}"),
         "listeners[0].defaults.userId: has no default; allowed: dataMode, environment, "
         "endpointTag, promptVersion, tenantId, featureTag"},
        {"too long", with(("{featureTag: " + std::string(257, 'x') + "}").c_str()),
         "listeners[0].defaults.featureTag: \"" + std::string(257, 'x') +
             "\" must have 1 to 256 bytes"},
        {"no text", with("{featureTag: {}}"), "listeners[0].defaults.featureTag: needs one value"},
        {"a tenant that is dropped", with("{tenantId: t}") + "privacy: {tenant_id: drop}\n", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        if (!test.complaint.empty()) CHECK(refusal(test.text) == test.complaint);
    }
    CHECK(complaint(cases[7].text) ==
          "listeners[0].defaults.tenantId: \"t\" would be dropped by privacy.tenant_id: drop; "
          "remove one of them");
}

TEST_CASE("config/event_rules: hash needs a file with a key, which is never shown") {
    const test::TempDir dir;
    const auto key_file = dir / "hash.key";
    const auto text = fmt::format("privacy: {{user_id: hash, hash_key_file: {}}}\n", key_file);
    const auto write_key = [&](const std::string& key) {
        std::ofstream(key_file, std::ios::binary | std::ios::trunc) << key;
    };
    CHECK(complaint("privacy: {tenant_id: hash}\n") ==
          "privacy.hash_key_file: is needed by hash; put at least 16 random bytes into a file, "
          "such as by openssl rand -hex 32, and give its path");
    const auto advice = "; make one with: openssl rand -hex 32 > " + key_file;
    const auto begin = "privacy.hash_key_file: " + key_file;
    CHECK(complaint(text).starts_with(begin + ": No such file or directory"));
    CHECK(complaint(text).find("openssl rand -hex 32") != std::string::npos);
    write_key("");
    CHECK(complaint(text) == begin + " holds a key of 0 bytes, outside [16, 4096]" + advice);
    write_key("fifteen bytes..\n\n");
    CHECK(complaint(text) == begin + " holds a key of 15 bytes, outside [16, 4096]" + advice);
    write_key(std::string(4097, 'k'));
    CHECK(complaint(text) ==
          begin + " holds a key of more than 4096 bytes, outside [16, 4096]" + advice);
    CHECK(complaint(fmt::format("privacy: {{user_id: hash, hash_key_file: {}}}\n", dir.path()))
              .find(" is not a regular file; make one") != std::string::npos);
    const std::string secret = "sixteen byte key";
    write_key(secret + "\r\n");
    const auto config = from(text);
    CHECK(config.events.privacy.hash_key == secret);
    CHECK(to_yaml(config).find(secret) == std::string::npos);
    CHECK(to_json(config).find(secret) == std::string::npos);
    const auto unused = from(fmt::format("privacy: {{hash_key_file: {}}}\n", key_file));
    CHECK(unused.events.privacy.hash_key.empty());
    CHECK(unused.warnings.front().starts_with("privacy.hash_key_file is not used"));
}

TEST_CASE("config/event_rules: lists and maps are shown as they are read, and stay in the file") {
    const auto config = from(
        "privacy: {deny_fields: [a, \"b \\\"c\"]}\nevents: {model_aliases: {m.1: m-1}}\n"
        "listeners: [{type: http, path: h, defaults: {environment: dev, featureTag: \"x y\"}}]\n");
    const auto yaml = to_yaml(config);
    CHECK(yaml.find(R"(  deny_fields: ["a", "b \"c"])") != std::string::npos);
    CHECK(yaml.find(R"(  model_aliases: {"m.1": "m-1"})") != std::string::npos);
    CHECK(yaml.find(R"(defaults: {"environment": "dev", "featureTag": "x y"}})") !=
          std::string::npos);
    CHECK(to_yaml(from(yaml)) == yaml);
    const auto json = to_json(config);
    CHECK(json.find(R"("model_aliases":{"m.1": "m-1"})") != std::string::npos);
    CHECK(json.find(R"("defaults":{"environment": "dev", "featureTag": "x y"})") !=
          std::string::npos);
    for (const auto& key : keys()) {
        if (key.read == nullptr) continue;
        auto sources = bare_sources();
        const auto name = variable_name(key.name);
        sources.environment.variables[name] = "x";
        const auto refused = load_config(sources);
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().context ==
              name + ": lists and maps are read from the file only; see --config");
    }
}
