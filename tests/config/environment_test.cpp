#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/config.h"

using namespace opsrelay::config;

TEST_CASE("config/environment: secrets leave the environment, and nothing of them stays") {
    for (const auto* name : {"OPSRELAY_API_KEY", "OPSRELAY_UPSTREAM__PROXY"}) {
        CAPTURE(name);
        REQUIRE(::setenv(name, "sk-secret", 1) == 0);
        char* const bytes = ::getenv(name);
        CHECK(take_environment().variables.at(name) == "sk-secret");
        CHECK(::getenv(name) == nullptr);
        CHECK(std::string_view(bytes, 9) == std::string_view("\0\0\0\0\0\0\0\0\0", 9));
    }
}

TEST_CASE("config/environment: proxies, systemd's credentials and trust are looked at") {
    for (const auto* name :
         {"HTTPS_PROXY", "http_proxy", "NO_PROXY", "CREDENTIALS_DIRECTORY", "SSL_CERT_FILE"}) {
        CAPTURE(name);
        REQUIRE(::setenv(name, "value", 1) == 0);
        CHECK(take_environment().variables.at(name) == "value");
        REQUIRE(::unsetenv(name) == 0);
    }
}

TEST_CASE("config/environment: the API key leaves the environment") {
    REQUIRE(::setenv("OPSRELAY_API_KEY", "sk-secret", 1) == 0);
    REQUIRE(::setenv("OPSRELAY_LOG__LEVEL", "debug", 1) == 0);
    REQUIRE(::setenv("OTHER_THING", "x", 1) == 0);
    const auto taken = take_environment();
    CHECK(taken.variables.at("OPSRELAY_API_KEY") == "sk-secret");
    CHECK(taken.variables.at("OPSRELAY_LOG__LEVEL") == "debug");
    CHECK_FALSE(taken.variables.contains("OTHER_THING"));
    CHECK(taken.root == (::geteuid() == 0));
    CHECK_FALSE(take_environment().variables.contains("OPSRELAY_API_KEY"));
    REQUIRE(::unsetenv("OPSRELAY_LOG__LEVEL") == 0);
    REQUIRE(::unsetenv("OTHER_THING") == 0);
}

namespace {

// The environment of a child of a parent that holds sockets; unset values are left out.
void set_inherited(const char* pid, const char* count, const char* names) {
    const std::array<std::array<const char*, 2>, 3> all{
        {{"LISTEN_PID", pid}, {"LISTEN_FDS", count}, {"LISTEN_FDNAMES", names}}};
    for (const auto& [name, value] : all) {
        REQUIRE((value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1)) == 0);
    }
}

bool forgotten() {
    return ::getenv("LISTEN_PID") == nullptr && ::getenv("LISTEN_FDS") == nullptr &&
           ::getenv("LISTEN_FDNAMES") == nullptr;
}

}  // namespace

TEST_CASE("config/environment: sockets of a parent are taken with their names") {
    const auto own = std::to_string(::getpid());
    std::array<int, 2> pipe{};
    REQUIRE(::pipe(pipe.data()) == 0);
    constexpr int kFirst = 200;  // two in a row that are free
    REQUIRE(::dup2(pipe[0], kFirst) == kFirst);
    REQUIRE(::dup2(pipe[1], kFirst + 1) == kFirst + 1);
    ::close(pipe[0]);
    ::close(pipe[1]);
    SUBCASE("both, named") {
        set_inherited(own.c_str(), "2", "a.socket:b.socket");
        const auto taken = take_inherited(kFirst);
        REQUIRE(taken.has_value());
        REQUIRE(taken->sockets.size() == 2);
        CHECK(taken->sockets[0].fd.get() == kFirst);
        CHECK(taken->sockets[0].name == "a.socket");
        CHECK(taken->sockets[1].name == "b.socket");
        CHECK((::fcntl(kFirst + 1, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK_FALSE(taken->for_process.has_value());
    }
    SUBCASE("fewer names than sockets") {
        set_inherited(own.c_str(), "2", "a.socket");
        const auto taken = take_inherited(kFirst);
        REQUIRE(taken.has_value());
        REQUIRE(taken->sockets.size() == 2);
        CHECK(taken->sockets[1].name.empty());
    }
    SUBCASE("fewer than it says") {
        set_inherited(own.c_str(), "3", nullptr);
        const auto taken = take_inherited(kFirst);
        REQUIRE_FALSE(taken.has_value());
        CHECK(taken.error().code == opsrelay::Errc::config_invalid);
        CHECK(taken.error().context.find("LISTEN_FDS=3: descriptor 202 \"\"") != std::string::npos);
    }
    CHECK(forgotten());
    ::close(kFirst);
    ::close(kFirst + 1);
}

TEST_CASE("config/environment: sockets that are not for this process stay where they are") {
    const auto own = std::to_string(::getpid());
    struct Case {
        const char* name;
        const char* pid;
        const char* count;
        bool told;  // that they are another's
        const char* complaint;
    };
    const std::array<Case, 9> cases{{
        {"nothing", nullptr, nullptr, false, ""},
        {"no process", nullptr, "1", false, ""},
        {"no number of sockets", own.c_str(), nullptr, false, ""},
        {"none", own.c_str(), "0", false, ""},
        {"of another process", "1", "1", true, ""},
        {"of another process, and no number", "1", "x", true, ""},
        {"no process number", "self", "1", false, "LISTEN_PID: \"self\" is no number"},
        {"no number", own.c_str(), "1x", false, "LISTEN_FDS: \"1x\" is no number from 0 to 64"},
        {"too many", own.c_str(), "65", false, "LISTEN_FDS: \"65\" is no number from 0 to 64"},
    }};
    for (const auto& test : cases) {
        CAPTURE(test.name);
        set_inherited(test.pid, test.count, nullptr);
        const auto taken = take_inherited(200);
        CHECK(forgotten());
        const std::string complaint = taken ? "" : taken.error().context;
        CHECK(complaint.find(test.complaint) == 0);
        CHECK(complaint.empty() == (*test.complaint == '\0'));
        if (!taken) continue;
        CHECK(taken->sockets.empty());
        CHECK(taken->for_process.has_value() == test.told);
    }
}
