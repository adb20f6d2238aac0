#include "cli/dead_text.h"

#include <doctest/doctest.h>
#include <rapidjson/document.h>

namespace opsrelay::cli {

namespace {

constexpr const char* kLetter =
    R"({"key":"upstream-0-12","kind":"upstream","lane":"default",)"
    R"("time":"2026-01-01T00:00:00.123Z","reason":"upstream_400",)"
    R"("detail":"say \"why\",\nplease","source":"upstream","id":"id-1",)"
    R"("provider":"openai","model":"gpt-4o","bytes":33,"hash":"00000000000000ab",)"
    R"("replayable":true,"event":{"a":1,"b":"x,y"}})";

rapidjson::Document parsed(const char* text) {
    rapidjson::Document document;
    document.Parse(text);
    REQUIRE_FALSE(document.HasParseError());
    return document;
}

}  // namespace

TEST_CASE("cli/dead_text: table") {
    CHECK(table_heading() + table_row(parsed(kLetter)) ==
          "KEY                     TIME                      REASON               BYTES  ID\n"
          "upstream-0-12           2026-01-01T00:00:00.123Z  upstream_400            33  id-1\n");
    CHECK(table_row(parsed(R"({"key":"k","bytes":1,"replayable":false})"))
              .ends_with("       1    (event not kept)\n"));
    CHECK(table_row(parsed(R"({"key":"upstream-65535-18446744073709551615",)"
                           R"("time":"12026-01-01T00:00:00.123Z","reason":"inconsistent_tokens",)"
                           R"("bytes":123456789,"id":"x","replayable":true})")) ==
          "upstream-65535-18446744073709551615 12026-01-01T00:00:00.123Z inconsistent_tokens "
          "123456789  x\n");
    CHECK(table_row(parsed("{}")).size() > 1);  // another version's reply is no reason to fail
}

TEST_CASE("cli/dead_text: all of one letter, without control characters") {
    CHECK(letter_text(parsed(kLetter)) ==
          "key: upstream-0-12\nkind: upstream\nlane: default\ntime: 2026-01-01T00:00:00.123Z\n"
          "reason: upstream_400\ndetail: say \"why\", please\nsource: upstream\nid: id-1\n"
          "provider: openai\nmodel: gpt-4o\nbytes: 33\nhash: 00000000000000ab\n"
          "event: {\"a\":1,\"b\":\"x,y\"}\n");
    CHECK(letter_text(parsed(R"({"key":"k","event":null})"))
              .ends_with("event: not kept, so it cannot be replayed\n"));
}

TEST_CASE("cli/dead_text: CSV by RFC 4180") {
    CHECK(csv_heading() ==
          "key,kind,lane,time,reason,detail,source,id,provider,model,bytes,hash,event\r\n");
    CHECK(csv_row(parsed(kLetter)) ==
          "upstream-0-12,upstream,default,2026-01-01T00:00:00.123Z,upstream_400,"
          "\"say \"\"why\"\",\nplease\",upstream,id-1,openai,gpt-4o,33,00000000000000ab,"
          "\"{\"\"a\"\":1,\"\"b\"\":\"\"x,y\"\"}\"\r\n");
    CHECK(csv_row(parsed(R"({"key":"k","event":null})")) == "k,,,,,,,,,,,,\r\n");
}

}  // namespace opsrelay::cli
