#include "forward/key_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <vector>

#include "core/task_group.h"
#include "support/log_capture.h"
#include "support/sim_clock.h"
#include "support/temp_dir.h"

namespace opsrelay::forward {

namespace {

/// No file can be opened while it lives: open(2) fails with EMFILE.
class NoDescriptors {
public:
    NoDescriptors() {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        const rlimit none{0, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;
    ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
    rlimit before_{};
};

void write(const std::string& path, std::string_view content) {
    std::ofstream(path, std::ios::trunc | std::ios::binary) << content;
}

}  // namespace

TEST_CASE("forward/key_file: white space around the key goes, anything else must be a key") {
    struct Case {
        const char* name;
        std::string content;
        const char* key;  // "": refused
        const char* complaint;
    };
    const Case cases[] = {
        {"plain", "abc", "abc", ""},
        {"newline", "abc\n", "abc", ""},
        {"CR LF and spaces", "  abc \r\n", "abc", ""},
        {"longest", std::string(kKeyBytesMax, 'k') + "\n", "k", ""},
        {"empty", "", "", "is empty"},
        {"only white space", " \n\n", "", "is empty"},
        {"too long", std::string(kKeyBytesMax + 1, 'k'), "", "longer than"},
        {"far too long", std::string(1U << 20U, 'k'), "", "longer than"},
        {"two lines", "abc\ndef\n", "", "control characters"},
        {"NUL", std::string("a\0b", 3), "", "control characters"},
        {"non-ASCII", "k\xc3\xa9y", "", "non-ASCII"},
    };
    const test::TempDir dir;
    const auto path = dir / "key";
    for (const auto& test : cases) {
        CAPTURE(test.name);
        write(path, test.content);
        const auto key = read_api_key(path);
        CHECK(key.has_value() == (*test.key != '\0'));
        if (key) {
            CHECK(key->view().starts_with(test.key));
        } else {
            CHECK(key.error().context.find(path) != std::string::npos);
            CHECK(key.error().context.find(test.complaint) != std::string::npos);
        }
    }
}

TEST_CASE("forward/key_file: what cannot be read is named with the next step") {
    const test::TempDir dir;
    const auto missing = read_api_key(dir / "none");
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().context.find("No such file") != std::string::npos);
    CHECK(missing.error().context.find("put the workspace's API key into it") != std::string::npos);
    CHECK_FALSE(read_api_key(dir.path()).has_value());
    const auto fifo = dir / "fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
    CHECK_FALSE(read_api_key(fifo).has_value());
}

TEST_CASE("forward/key_file: a change is seen within a second, through symbolic links too") {
    const test::LogCapture log;
    const test::TempDir dir;
    const auto link = dir / "key";
    write(dir / "one", "first");
    write(dir / "two", "second");
    std::filesystem::create_symlink(dir / "one", link);
    asio::io_context io;
    test::SimClock clock;
    KeyFile file(link, clock);
    REQUIRE(file.load()->view() == "first");
    std::vector<std::string> seen;
    TaskGroup group(io.get_executor(), clock);
    group.spawn("watch", file.watch([&](const Secret& key) { seen.emplace_back(key.view()); }));
    clock.run_for(io, seconds{10});
    CHECK(seen.empty());
    std::filesystem::remove(link);
    std::filesystem::create_symlink(dir / "two", link);
    clock.run_for(io, seconds{1});
    CHECK(seen == std::vector<std::string>{"second"});
    write(dir / "two", "third!");
    clock.run_for(io, seconds{1});
    CHECK(seen.back() == "third!");
    std::filesystem::remove(link);  // the key in use stays
    clock.run_for(io, minutes{5});
    CHECK(seen.size() == 2);
    CHECK(log.count("cannot be used") == 1);
    write(link, "fourth");
    clock.run_for(io, seconds{1});
    CHECK(seen.back() == "fourth");
    CHECK(log.count("fourth") == 0);
    group.cancel(asio::cancellation_type::terminal);
    clock.run_for(io, seconds{2});
    CHECK(group.size() == 0);
}

TEST_CASE("forward/key_file: a change that nothing shows is found when it is asked for") {
    const test::LogCapture log;
    const test::TempDir dir;
    const auto path = dir / "key";
    write(path, "first");
    test::SimClock clock;
    KeyFile file(path, clock);
    REQUIRE(file.load()->view() == "first");
    CHECK_FALSE(file.read_again().has_value());
    write(path, "other");
    CHECK(file.read_again() == Secret("other"));
    CHECK_FALSE(file.read_again().has_value());
    CHECK_FALSE(file.poll().has_value());
    std::filesystem::remove(path);
    CHECK_FALSE(file.read_again().has_value());
    CHECK(log.count("cannot be used") == 1);
    CHECK(log.count("other") == 0);
}

TEST_CASE("forward/key_file: a Kubernetes volume is swapped as a whole") {
    const test::LogCapture log;
    const test::TempDir dir;
    // As kubelet does it: key -> ..data/key, ..data -> ..<time>, and ..data is renamed over.
    const auto publish = [&](const std::string& name, std::string_view key) {
        std::filesystem::create_directory(dir / name);
        write(dir / (name + "/key"), key);
        std::filesystem::create_symlink(name, dir / "..data_tmp");
        std::filesystem::rename(dir / "..data_tmp", dir / "..data");
    };
    publish("..2026_01", "first");
    std::filesystem::create_symlink("..data/key", dir / "key");
    test::SimClock clock;
    KeyFile file(dir / "key", clock);
    REQUIRE(file.load()->view() == "first");
    publish("..2026_02", "after");  // of the same length, and perhaps in the same instant
    std::filesystem::remove_all(dir / "..2026_01");
    CHECK(file.poll() == Secret("after"));
    CHECK_FALSE(file.poll().has_value());
}

TEST_CASE(
    "forward/key_file: a file that could not be read is read again though it did not change") {
    const test::LogCapture log;
    const test::TempDir dir;
    const auto path = dir / "key";
    test::SimClock clock;
    SUBCASE("at start") {
        write(path, "key");
        KeyFile file(path, clock);
        {
            const NoDescriptors none;
            const auto key = file.load();
            REQUIRE_FALSE(key.has_value());
            CHECK(key.error().code == Errc::io);
        }
        CHECK(file.poll() == Secret("key"));
        CHECK_FALSE(file.poll().has_value());
    }
    SUBCASE("after a change") {
        write(path, "first");
        KeyFile file(path, clock);
        REQUIRE(file.load()->view() == "first");
        write(path, "second");
        {
            const NoDescriptors none;
            for (int i = 0; i < 3; ++i) CHECK_FALSE(file.poll().has_value());
        }
        CHECK(log.count("cannot be used") == 1);
        CHECK(file.poll() == Secret("second"));
    }
    SUBCASE("one that is wrong is not read again before it changes") {
        write(path, "two words");
        KeyFile file(path, clock);
        REQUIRE_FALSE(file.load().has_value());
        CHECK_FALSE(file.poll().has_value());
        CHECK(log.count("cannot be used") == 0);
    }
}

}  // namespace opsrelay::forward
