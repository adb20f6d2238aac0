#include "cli/line_source.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>

#include "core/unique_fd.h"
#include "support/temp_dir.h"

#include <fcntl.h>

using namespace opsrelay;
using namespace opsrelay::cli;

namespace {

std::deque<std::string> lines_of(const std::string& text, std::uint64_t& refused) {
    const test::TempDir dir;
    std::ofstream(dir / "f", std::ios::binary) << text;
    const UniqueFd fd(::open((dir / "f").c_str(), O_RDONLY));
    LineSource source(fd.get());
    std::deque<std::string> lines;
    while (!source.at_end()) REQUIRE(source.fill(lines).has_value());
    refused = source.too_long() + source.messages();
    return lines;
}

}  // namespace

TEST_CASE("cli/line_source: lines of a file, blank ones left out") {
    const std::string long_line(kLineBytesMax, 'x');
    struct Case {
        const char* name;
        std::string text;
        std::deque<std::string> lines;
        std::uint64_t refused;
    };
    const Case cases[] = {
        {"empty", "", {}, 0},
        {"two", "a\nb\n", {"a", "b"}, 0},
        {"last without newline", "a\nb", {"a", "b"}, 0},
        {"carriage returns", "a\r\nb\r\n", {"a", "b"}, 0},
        {"blank lines", "\n \n\r\na\n\n", {"a"}, 0},
        {"longest", long_line + "\nb\n", {long_line, "b"}, 0},
        {"too long", "a\n" + long_line + "x\nb\n", {"a", "b"}, 1},
        {"much too long", "a\n" + long_line + long_line + long_line + "\nb", {"a", "b"}, 1},
        {"too long without an end", "a\n" + long_line + "xx", {"a"}, 1},
        {"a message to the relay", "{\"opsrelay\":{\"dropped\":1}}\na\n", {"a"}, 1},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        std::uint64_t refused = 0;
        CHECK((lines_of(test.text, refused) == test.lines));
        CHECK(refused == test.refused);
    }
}

TEST_CASE("cli/line_source: an argument is one event") {
    LineSource source(std::vector<std::string>{"{\n\"a\": 1\n}", " ", "b"});
    std::deque<std::string> lines;
    while (!source.at_end()) REQUIRE(source.fill(lines).has_value());
    CHECK((lines == std::deque<std::string>{"{ \"a\": 1 }", "b"}));
    CHECK(LineSource(std::vector<std::string>{}).at_end());
}

TEST_CASE("cli/line_source: a descriptor that cannot be read is an error") {
    const test::TempDir dir;
    const UniqueFd fd(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
    LineSource source(fd.get());
    std::deque<std::string> lines;
    const auto filled = source.fill(lines);
    REQUIRE_FALSE(filled.has_value());
    CHECK(filled.error().context == "read the events: Is a directory");
    CHECK(source.at_end());
}
