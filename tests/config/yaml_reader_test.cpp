#include "config/yaml_reader.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace opsrelay;
using namespace opsrelay::config;

TEST_CASE("config/yaml_reader: values keep their text and their place") {
    const auto tree = read_yaml("a: \"0666\"\nb:\n  - off\n  - {c: 1}\nd: null\n", "f").value();
    REQUIRE(tree.kind == YamlNode::Kind::map);
    REQUIRE(tree.members.size() == 3);
    CHECK(tree.members[0].value.text == "0666");
    const auto& list = tree.members[1].value;
    REQUIRE(list.items.size() == 2);
    CHECK(list.items[0].text == "off");
    CHECK(list.items[0].place.line == 3);
    CHECK(list.items[0].place.column == 5);
    CHECK(list.items[1].members[0].key == "c");
    CHECK(tree.members[2].value.kind == YamlNode::Kind::null);
    CHECK(read_yaml("", "f").value().kind == YamlNode::Kind::null);
    CHECK(read_yaml("# nothing\n", "f").value().kind == YamlNode::Kind::null);
}

TEST_CASE("config/yaml_reader: an alias repeats what its anchor names") {
    const auto tree = read_yaml("a: &a {x: [1, ~]}\nb: *a\nc: &c off\nd: [*c, *c]\n", "f").value();
    REQUIRE(tree.members.size() == 4);
    REQUIRE(tree.members[1].value.members.size() == 1);
    const auto& repeated = tree.members[1].value.members[0];
    CHECK(repeated.key == "x");
    REQUIRE(repeated.value.items.size() == 2);
    CHECK(repeated.value.items[0].text == "1");
    CHECK(repeated.value.items[1].kind == YamlNode::Kind::null);
    CHECK(repeated.place.line == 1);
    REQUIRE(tree.members[3].value.items.size() == 2);
    CHECK(tree.members[3].value.items[1].text == "off");
}

TEST_CASE("config/yaml_reader: what is no plain document is refused with its place") {
    std::string deep;
    for (int i = 0; i < 5000; ++i) deep += '[';
    std::string laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
    for (char c = 'b'; c < 'g'; ++c) {
        laughs += fmt::format("{0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n", c,
                              static_cast<char>(c - 1));
    }
    std::string long_text = "a: &a \"" + std::string(kFileBytesMax / 2, 'x') + "\"\nb: [";
    for (int i = 0; i < 4000; ++i) long_text += "*a,";
    long_text += "]\n";
    std::string documents;
    for (int i = 0; i < 100'000; ++i) documents += "---\n";
    struct Case {
        const char* name;
        std::string text;
        const char* complaint;
    };
    const Case cases[] = {
        {"duplicate key", "a: 1\nb: 2\na: 3\n", "f:3:1: a: the key is already set in line 1"},
        {"duplicate key inside", "a:\n  b: 1\n  b: 2\n",
         "f:3:3: b: the key is already set in line 2"},
        {"second document", "a: 1\n---\nb: 2\n", "f:2:1: a second document"},
        {"bad syntax", "a: [1, 2\n", "f:"},
        {"tab", "a:\n\tb: 1\n", "f:2:"},
        {"key is a list", "[a]: 1\n", "f:1:1: a key must be a plain word"},
        {"aliases that multiply", laughs, "more than 4096 values"},
        {"deep", deep, "f:"},
        {"nine levels", "a: [[[[[[[[1]]]]]]]]\n", "nested deeper than 8"},
        {"large", std::string(kFileBytesMax + 1, '#'), "more than 1048576"},
        {"unknown alias", "a: *b\n", "f:1:"},
        {"alias of what it is in", "a: &a [1, *a]\n", "f:1:11: an alias of what it is a part of"},
        {"alias too deep", "a: &a [[[[[1]]]]]\nb: [[[*a]]]\n", "f:2:7: nested deeper than 8"},
        {"aliases of a long text", long_text, "bytes, aliases counted each time"},
        {"key is an alias", "a: &a b\n? *a\n: 1\n", "f:2:3: a key must be a plain word"},
        {"comma alone", ", ", "f:1:1: this is no YAML"},
        {"comma behind the map", "a: 1\n, \n", "f:2:"},
        {"documents without end", documents, "f:2:1: a second document"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto tree = read_yaml(test.text, "f");
        REQUIRE_FALSE(tree.has_value());
        CAPTURE(tree.error().context);
        CHECK(tree.error().code == Errc::config_invalid);
        CHECK(tree.error().context.find(test.complaint) != std::string::npos);
    }
}
