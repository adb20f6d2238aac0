#include "core/secret.h"

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <new>
#include <string>
#include <utility>

using namespace opsrelay;

TEST_CASE("core/secret: it is a text") {
    const Secret parts{"head ", "key", " tail"};
    CHECK(parts.view() == "head key tail");
    CHECK(Secret("a") == Secret(std::string_view("a")));
    CHECK_FALSE(Secret("a") == Secret("b"));
    CHECK(Secret().empty());
    Secret copied = parts;
    CHECK(copied == parts);
    copied = Secret("x");
    CHECK(copied.view() == "x");
    const auto& same = copied;
    copied = same;
    CHECK(copied.view() == "x");
}

TEST_CASE("core/secret: it grows, and leaves nothing where it was") {
    Secret secret("kkkk");
    const auto* const inside = reinterpret_cast<const char*>(&secret);
    secret.append("kk");
    CHECK(secret.view() == "kkkkkk");
    secret.append(std::string(100, 'x'));
    CHECK(secret.view() == "kkkkkk" + std::string(100, 'x'));
    CHECK(std::string_view(inside, sizeof secret).find("kkk") == std::string_view::npos);
    std::string all(secret.view());
    for (int i = 0; i < 50; ++i) {
        const std::string more(static_cast<std::size_t>(i), 'm');
        secret.append(more);
        all += more;
    }
    CHECK(secret.view() == all);
    secret.append({});
    CHECK(secret.view() == all);
}

TEST_CASE("core/secret: nothing stays behind in memory that is still there") {
    for (const bool longer : {false, true}) {
        CAPTURE(longer);
        const std::string text(longer ? 200 : 10, 'k');
        Secret secret{std::string_view(text)};
        const char* const bytes = secret.view().data();
        SUBCASE("wiped") {
            secret.wipe();
            CHECK(secret.empty());
            CHECK(std::string_view(bytes, text.size()).find('k') == std::string_view::npos);
        }
        SUBCASE("replaced by a shorter one") {
            secret = Secret("z");
            CHECK(secret.view() == "z");
            if (longer) return;  // its memory was given back, overwritten before
            CHECK(std::string_view(bytes, text.size()).find('k') == std::string_view::npos);
        }
        SUBCASE("moved away") {
            const Secret moved = std::move(secret);
            CHECK(moved.view() == text);
            if (longer) return;  // its memory moved along
            CHECK(std::string_view(bytes, text.size()).find('k') == std::string_view::npos);
        }
        SUBCASE("destroyed") {
            alignas(Secret) std::array<char, sizeof(Secret)> place{};
            auto* const inside = new (place.data()) Secret(std::string_view("kkkkkkkk"));
            std::destroy_at(inside);
            const std::string_view left(place.data(), place.size());
            CHECK(left.find("kkkk") == std::string_view::npos);
        }
    }
}
