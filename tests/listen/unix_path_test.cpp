#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "listen/socket.h"
#include "listen/unix_path.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using opsrelay::test::TempDir;

namespace {

// A socket at `path` made without a lock, as another program would.
UniqueFd foreign_socket(const std::string& path, int type) {
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    if (type == SOCK_STREAM) REQUIRE(::listen(fd.get(), 1) == 0);
    return fd;
}

struct Refusal {
    Errc code{};
    std::string context;
};

Refusal refusal_of(const UnixSocketSpec& spec) {
    auto claimed = UnixPath::claim(spec);
    if (!claimed) return {claimed.error().code, claimed.error().context};
    const auto bound = claimed->bind();
    if (!bound) return {bound.error().code, bound.error().context};
    FAIL("the path was taken");
    return {};
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

mode_t mode_of(const std::string& path) {
    struct stat status {};
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    return status.st_mode & 07777U;
}

}  // namespace

TEST_CASE(
    "listen/unix_path: mode and group are set whatever the umask, and the path is given back") {
    const TempDir dir;
    const auto path = dir / "a.sock";
    const auto old = ::umask(0077);
    {
        auto place = UnixPath::claim({SOCK_DGRAM, path, 0620, std::to_string(::getgid())});
        REQUIRE(place.has_value());
        REQUIRE(place->bind().has_value());
        CHECK(mode_of(path) == 0620);
        CHECK_FALSE(std::filesystem::exists(path + ".new"));
        CHECK_FALSE(place->lost());
    }
    ::umask(old);
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(std::filesystem::exists(path + ".lock"));
}

TEST_CASE("listen/unix_path: a group is looked up by name and must exist") {
    const TempDir dir;
    const auto refused = refusal_of({SOCK_DGRAM, dir / "a.sock", 0660, "no-such-group-anywhere"});
    CHECK(refused.code == Errc::config_invalid);
    CHECK(contains(refused.context, "no-such-group-anywhere"));
    if (::geteuid() == 0) {
        auto place = UnixPath::claim({SOCK_DGRAM, dir / "a.sock", 0660, "daemon"});
        REQUIRE(place.has_value());
        CHECK(place->bind().has_value());
    }
}

TEST_CASE("listen/unix_path: a path as long as the kernel takes works, one byte more is refused") {
    const TempDir dir;
    const auto at_limit = dir / std::string(kUnixPathMax - dir.path().size() - 1, 'a');
    REQUIRE(at_limit.size() == kUnixPathMax);
    {
        auto place = UnixPath::claim({SOCK_STREAM, at_limit, 0666, {}});
        REQUIRE(place.has_value());
        const auto bound = place->bind();
        REQUIRE_MESSAGE(bound.has_value(), (bound ? std::string{} : bound.error().context));
        CHECK(std::filesystem::is_socket(at_limit));
    }
    const auto refused = refusal_of({SOCK_STREAM, at_limit + "a", 0666, {}});
    CHECK(refused.code == Errc::config_invalid);
    CHECK(contains(refused.context, at_limit + "a"));
    CHECK(contains(refused.context, "108 bytes"));
    CHECK(contains(refused.context, "at most 107"));
}

TEST_CASE("listen/unix_path: what cannot be used is refused by name with the next step") {
    const TempDir dir;
    const auto directory = dir / "directory.sock";
    std::filesystem::create_directory(directory);
    const auto file = dir / "file.sock";
    std::ofstream(file) << "precious";
    struct Case {
        const char* name;
        std::string path;
        Errc code;
        const char* part;
    };
    const Case cases[] = {
        {"a directory", directory, Errc::listener_failed, "is a directory; remove it"},
        {"a file", file, Errc::listener_failed, "not a socket; remove it"},
        {"no run directory", dir / "none/a.sock", Errc::listener_failed, "create the directory"},
        {"a file as run directory", file + "/a.sock", Errc::listener_failed,
         "create the directory"},
        {"not absolute", "a.sock", Errc::config_invalid, "is not absolute"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto refused = refusal_of({SOCK_DGRAM, test.path, 0666, {}});
        CHECK(refused.code == test.code);
        CHECK(contains(refused.context, test.path));
        CHECK_MESSAGE(contains(refused.context, test.part), refused.context);
    }
    CHECK(std::filesystem::file_size(file) == 8);
}

TEST_CASE("listen/unix_path: no permission is refused with the next step") {
    const TempDir dir;
    std::filesystem::create_directory(dir / "closed");
    std::filesystem::permissions(dir / "closed", std::filesystem::perms::owner_read);
    const bool root = ::geteuid() == 0;  // root may write everywhere, so be somebody else
    if (root) REQUIRE(::seteuid(65'534) == 0);
    const auto refused = refusal_of({SOCK_DGRAM, dir / "closed/a.sock", 0666, {}});
    if (root) REQUIRE(::seteuid(0) == 0);
    CHECK(refused.code == Errc::listener_failed);
    CHECK(contains(refused.context, dir / "closed/a.sock"));
    CHECK(contains(refused.context, "Permission denied; run as a user"));
}

TEST_CASE("listen/unix_path: a stale socket is replaced, a live one is not") {
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
        CAPTURE(type);
        const TempDir dir;
        const auto path = dir / "a.sock";
        auto other = foreign_socket(path, type);
        const auto refused = refusal_of({type, path, 0666, {}});
        CHECK(refused.code == Errc::address_in_use);
        CHECK(contains(refused.context, path));
        const auto wrong_type =
            refusal_of({type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM, path, 0666, {}});
        CHECK(wrong_type.code == Errc::address_in_use);

        other.reset();  // now nobody serves it
        auto place = UnixPath::claim({type, path, 0666, {}});
        REQUIRE(place.has_value());
        CHECK(place->bind().has_value());
        CHECK_FALSE(place->lost());
    }
}

TEST_CASE("listen/unix_path: two relays never share a path, even before the socket exists") {
    const TempDir dir;
    const auto path = dir / "a.sock";
    auto first = UnixPath::claim({SOCK_DGRAM, path, 0666, {}});
    REQUIRE(first.has_value());
    const auto refused = refusal_of({SOCK_DGRAM, path, 0666, {}});
    CHECK(refused.code == Errc::address_in_use);
    CHECK(contains(refused.context, path + ".lock"));
}

TEST_CASE("listen/unix_path: a path that is no longer ours is not unlinked") {
    const TempDir dir;
    const auto path = dir / "a.sock";
    UniqueFd other;
    {
        auto place = UnixPath::claim({SOCK_DGRAM, path, 0666, {}});
        REQUIRE(place.has_value());
        const auto bound = place->bind();
        REQUIRE(bound.has_value());
        std::filesystem::remove(path);
        CHECK(place->lost());
        other = foreign_socket(path, SOCK_DGRAM);
        CHECK(place->lost());
        const auto again = place->bind();
        CHECK_FALSE(again.has_value());
    }
    CHECK(std::filesystem::is_socket(path));
}

TEST_CASE("listen/unix_path: a lost path, or a lost directory with its lock, is made again") {
    const TempDir dir;
    std::filesystem::create_directory(dir / "run");
    const auto path = dir / "run/a.sock";
    auto place = UnixPath::claim({SOCK_DGRAM, path, 0666, {}});
    REQUIRE(place.has_value());
    REQUIRE(place->bind().has_value());
    std::filesystem::remove_all(dir / "run");
    CHECK_FALSE(place->bind().has_value());
    std::filesystem::create_directory(dir / "run");
    CHECK(place->bind().has_value());
    CHECK_FALSE(place->lost());
    CHECK(refusal_of({SOCK_DGRAM, path, 0666, {}}).code == Errc::address_in_use);
}

TEST_CASE("listen/socket: only loopback addresses, and a taken port is named") {
    for (const char* address : {"0.0.0.0", "192.0.2.1", "::", "localhost", "", "127.0.0.1:80"}) {
        CAPTURE(address);
        const auto bound = bind_ip(SOCK_DGRAM, address, 0);
        REQUIRE_FALSE(bound.has_value());
        CHECK(bound.error().code == Errc::config_invalid);
        CHECK(contains(bound.error().context, "use 127.0.0.1 or ::1"));
    }
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
        CAPTURE(type);
        const auto first = bind_ip(type, "127.0.0.1", 0);
        REQUIRE(first.has_value());
        const auto port = std::stoi(first->address.substr(first->address.rfind(':') + 1));
        CHECK(port > 0);
        const auto second = bind_ip(type, "127.0.0.1", static_cast<std::uint16_t>(port));
        REQUIRE_FALSE(second.has_value());
        CHECK(second.error().code == Errc::address_in_use);
        CHECK(contains(second.error().context, first->address));
        CHECK(contains(second.error().context, "configure another one"));
    }
}

TEST_CASE("listen/socket: the granted receive buffer is reported") {
    const auto bound = bind_ip(SOCK_DGRAM, "127.0.0.1", 0);
    REQUIRE(bound.has_value());
    CHECK(set_receive_buffer(bound->fd.get(), Bytes{128U << 10U}) == Bytes{128U << 10U});
}
