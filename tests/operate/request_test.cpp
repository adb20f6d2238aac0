#include "operate/request.h"

#include <doctest/doctest.h>

namespace opsrelay::operate {

TEST_CASE("operate/request: every field") {
    const auto request = parse_request(
        R"({"kind":"upstream","lane":"default","reason":"upstream_400","after":"upstream-0-3",)"
        R"("limit":7,"keys":["admission-1-2"],"all":true,"events":true,)"
        R"("as_of":{"admission":3,"lanes":{"x":2}},)"
        R"("set":{"model":"x","n":[1]},"configured":true,"ends":{"default":7}})");
    REQUIRE(request.has_value());
    CHECK(request->kind == spool::DeadKind::upstream);
    CHECK(request->lane == "default");
    CHECK(request->reason == "upstream_400");
    CHECK(request->after == spool::DeadKey{spool::DeadKind::upstream, kDefaultLane, 3});
    CHECK(request->limit == 7);
    REQUIRE(request->keys.size() == 1);
    CHECK(request->keys[0] == spool::DeadKey{spool::DeadKind::admission, LaneId{1}, 2});
    CHECK(request->all);
    CHECK(request->as_of == AsOf{3, {{"x", 2}}});
    CHECK(request->events);
    REQUIRE(request->set.size() == 2);
    CHECK(request->set[0] == FieldEdit{"model", "\"x\""});
    CHECK(request->set[1] == FieldEdit{"n", "[1]"});
    CHECK(request->configured);
    REQUIRE(request->ends.size() == 1);
    CHECK(request->ends[0] == std::pair<std::string, Seq>{"default", 7});
    CHECK(parse_request("{}").has_value());
}

TEST_CASE("operate/request: numbers to be set are not changed") {
    const auto request = parse_request(R"({"set":{"zero":0e66,"tenth":0.1,"count":7,"less":-3}})");
    REQUIRE(request.has_value());
    REQUIRE(request->set.size() == 4);
    CHECK(request->set[0].second == "0.0");
    CHECK(request->set[1].second == "0.1");
    CHECK(request->set[2].second == "7");
    CHECK(request->set[3].second == "-3");
}

TEST_CASE("operate/request: what is unknown or of another type is refused by name") {
    struct Case {
        std::string body;
        const char* complaint;
    };
    std::string many = R"({"keys":["upstream-0-1")";
    for (std::size_t i = 0; i < kLettersMax; ++i) many += R"(,"upstream-0-1")";
    const Case cases[] = {
        {"", "the body must be a JSON object"},
        {"[]", "the body must be a JSON object"},
        {R"({"reasn":"x"})", "reasn is not known"},
        {R"({"kind":"dead"})", "kind must be admission or upstream"},
        {R"({"kind":1})", "kind must be admission or upstream"},
        {R"({"lane":""})", "lane must be a text"},
        {R"({"reason":null})", "reason must be a text"},
        {R"({"after":"x"})", "after must be a key such as upstream-0-12"},
        {R"({"limit":0})", "limit must be from 1 to 1000"},
        {R"({"limit":1001})", "limit must be from 1 to 1000"},
        {R"({"keys":[]})", "keys must be an array of 1 to 1000 keys"},
        {R"({"keys":"upstream-0-1"})", "keys must be an array of 1 to 1000 keys"},
        {R"({"keys":["upstream-0-1",2]})", "keys must be a key such as upstream-0-12"},
        {many + "]}", "keys must be an array of 1 to 1000 keys"},
        {R"({"all":"yes"})", "all must be true or false"},
        {R"({"ends":[]})", "ends must be an object of at most 64 lanes"},
        {R"({"ends":{"a":-1}})", "ends must be numbers by lane"},
        {R"({"as_of":1.5})", "as_of must be what an earlier reply said"},
        {R"({"as_of":{"admission":1}})", "as_of must be what an earlier reply said"},
        {R"({"as_of":{"admission":-1,"lanes":{}}})", "as_of must be what an earlier reply said"},
        {R"({"as_of":{"admission":1,"lanes":{"x":"y"}}})", "as_of.lanes must be numbers by lane"},
        {R"({"set":[]})", "set must be an object of fields and their values"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.body.substr(0, 60));
        const auto request = parse_request(test.body);
        REQUIRE(request.has_error());
        CHECK(request.error().code == Errc::config_invalid);
        CHECK(request.error().context == test.complaint);
    }
}

}  // namespace opsrelay::operate
