#include "listen/content_coding.h"

#include <doctest/doctest.h>

#include <string>

#include "listen/packed.h"

namespace opsrelay::listen {

namespace {

using State = Unpacked::State;
using testing::gzip;
using testing::zstd;

}  // namespace

TEST_CASE("listen/content_coding: names in any case, one at a time") {
    CHECK(content_coding("identity") == ContentCoding::identity);
    CHECK(content_coding(" GZip\t") == ContentCoding::gzip);
    CHECK(content_coding("zstd") == ContentCoding::zstd);
    for (const auto* const other : {"", " ", "br", "deflate", "gzip, zstd", "zstd,", "zst"}) {
        CAPTURE(other);
        CHECK_FALSE(content_coding(other).has_value());
    }
}

TEST_CASE("listen/content_coding: a body is unpacked up to a limit, whatever it claims") {
    const std::string text(300'000, 'x');
    CHECK(unpack(ContentCoding::identity, text, 300'000_B).bytes == text);
    CHECK(unpack(ContentCoding::identity, text, 299'999_B).state == State::too_large);
    struct Case {
        ContentCoding coding;
        std::string packed;
        std::string more;  // another member or frame
    };
    const Case cases[] = {
        {ContentCoding::gzip, gzip(text), gzip("y")},
        {ContentCoding::zstd, zstd(text), zstd("y")},
    };
    for (const auto& test : cases) {
        CAPTURE(to_string(test.coding));
        CHECK(unpack(test.coding, test.packed, 300'000_B).bytes == text);
        CHECK(unpack(test.coding, test.packed + test.more, 300'001_B).bytes == text + "y");
        const auto bomb = unpack(test.coding, test.packed, 299'999_B);
        CHECK(bomb.state == State::too_large);
        CHECK(bomb.bytes.empty());
        for (std::size_t cut = 1; cut < test.packed.size(); ++cut) {
            CAPTURE(cut);
            const auto part = std::string_view(test.packed).substr(0, cut);
            CHECK(unpack(test.coding, part, 1_MiB).state == State::damaged);
        }
        CHECK(unpack(test.coding, test.packed + "rest", 1_MiB).state == State::damaged);
        CHECK(unpack(test.coding, "", 1_MiB).state == State::damaged);
        CHECK(unpack(test.coding, "not packed", 1_MiB).state == State::damaged);
    }
    CHECK(unpack(ContentCoding::gzip, zstd("x"), 1_MiB).state == State::damaged);
    CHECK(unpack(ContentCoding::zstd, gzip("x"), 1_MiB).state == State::damaged);
}

TEST_CASE("listen/content_coding: a zstd window takes no more memory than every decoder has") {
    CHECK(unpack(ContentCoding::zstd, zstd("x", 23), 1_MiB).bytes == "x");
    CHECK(unpack(ContentCoding::zstd, zstd("x", 24), 1_MiB).state == State::damaged);
}

}  // namespace opsrelay::listen
