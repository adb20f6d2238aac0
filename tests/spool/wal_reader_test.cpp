#include "spool/wal_reader.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "core/random.h"
#include "spool/byte_order.h"

namespace opsrelay::spool {
namespace {

std::string fragment(char type, std::string_view payload) {
    std::string bytes(kWalHeaderBytes, '\0');
    store_le(bytes.data(), wal_checksum(type, payload));
    store_le(bytes.data() + 4, static_cast<std::uint16_t>(payload.size()));
    bytes[6] = type;
    return bytes.append(payload);
}

/// A log as RocksDB writes it.
std::string make_log(const std::vector<std::string>& records) {
    std::string log;
    for (const auto& record : records) {
        std::string_view rest = record;
        bool first = true;
        do {
            auto room = kWalBlockBytes - log.size() % kWalBlockBytes;
            if (room < kWalHeaderBytes) {
                log.append(room, '\0');
                room = kWalBlockBytes;
            }
            const auto part = rest.substr(0, room - kWalHeaderBytes);
            rest.remove_prefix(part.size());
            const char type = rest.empty() ? (first ? 1 : 4) : (first ? 2 : 3);
            log += fragment(type, part);
            first = false;
        } while (!rest.empty());
    }
    return log;
}

std::vector<std::string> sample_records() {
    std::vector<std::string> records;
    Xoshiro rng{7};
    for (const std::size_t size : {0U, 1U, 500U, 40'000U, 32'754U, 32'761U, 9U, 200'000U, 30U}) {
        std::string record(size, '\0');
        for (auto& c : record) c = static_cast<char>(rng.next());
        records.push_back(std::move(record));
    }
    return records;
}

struct Found {
    std::vector<std::string> whole;
    std::size_t damaged = 0;
    std::uint64_t damaged_bytes = 0;
    std::uint64_t torn_bytes = 0;
};

Found read(const std::string& log) {
    std::istringstream stream(log);
    WalReader reader(stream);
    Found found;
    WalRecord record;
    while (reader.next(record)) {
        if (record.whole) {
            found.whole.push_back(record.bytes);
        } else {
            ++found.damaged;
        }
    }
    found.damaged_bytes = reader.damaged_bytes();
    found.torn_bytes = reader.torn_bytes();
    return found;
}

TEST_CASE("spool/wal_reader: the checksum is CRC-32C, masked") {
    // RFC 3720 B.4 has 0xE3069283 for "123456789".
    constexpr std::uint32_t kPlain = 0xE306'9283;
    CHECK(wal_checksum('1', "23456789") == ((kPlain >> 15U) | (kPlain << 17U)) + 0xa282'ead8U);
}

TEST_CASE("spool/wal_reader: records of every size, across blocks, come back whole") {
    const auto records = sample_records();
    const auto found = read(make_log(records));
    CHECK(found.whole == records);
    CHECK(found.damaged == 0);
    CHECK(found.damaged_bytes == 0);
    CHECK(found.torn_bytes == 0);
    CHECK(read("").whole.empty());
}

TEST_CASE("spool/wal_reader: space set aside behind the end is no damage") {
    const auto records = sample_records();
    const auto found = read(make_log(records) + std::string(100'000, '\0'));
    CHECK(found.whole.size() == records.size());
    CHECK(found.damaged == 0);
    CHECK(found.whole == records);
    CHECK(found.damaged_bytes + found.torn_bytes == 0);
}

TEST_CASE("spool/wal_reader: a flipped byte anywhere costs the record that it is in") {
    const auto records = sample_records();
    const auto log = make_log(records);
    Xoshiro rng{11};
    for (int round = 0; round < 400; ++round) {
        const auto at = rng.next() % log.size();
        CAPTURE(at);
        auto broken = log;
        broken[at] =
            static_cast<char>(static_cast<unsigned char>(broken[at]) ^ (1U << rng.next() % 8));
        const auto found = read(broken);
        // The filling of a block's end belongs to no record.
        REQUIRE(found.whole.size() + 1 >= records.size());
        auto next = records.begin();
        for (const auto& record : found.whole) {
            next = std::find(next, records.end(), record);
            REQUIRE(next != records.end());
            ++next;
        }
        if (found.whole.size() < records.size()) {
            CHECK(found.damaged > 0);
            CHECK(found.damaged_bytes + found.torn_bytes > 0);
        }
    }
}

TEST_CASE("spool/wal_reader: a log cut anywhere gives every record before the cut") {
    const auto records = sample_records();
    const auto log = make_log(records);
    for (std::size_t cut = 0; cut < log.size(); cut += 997) {
        CAPTURE(cut);
        const auto found = read(log.substr(0, cut));
        std::size_t expected = 0;
        while (
            expected < records.size() &&
            make_log({records.begin(), records.begin() + static_cast<std::ptrdiff_t>(expected) + 1})
                    .size() <= cut) {
            ++expected;
        }
        CHECK(found.whole.size() == expected);
        CHECK(found.damaged_bytes == 0);  // torn, as by a crash
    }
}

TEST_CASE("spool/wal_reader: a block that is gone does not join the records around it") {
    const std::vector<std::string> records{std::string(150'000, 'a'), "b", "c"};
    auto log = make_log(records);
    for (const bool zeros : {false, true}) {
        CAPTURE(zeros);
        auto broken = log;
        if (zeros) {
            std::fill_n(broken.begin() + 2 * kWalBlockBytes, kWalBlockBytes, '\0');
        } else {
            broken.erase(2 * kWalBlockBytes, kWalBlockBytes / 2);
        }
        CHECK(read(broken).whole == std::vector<std::string>{"b", "c"});
    }
}

TEST_CASE("spool/wal_reader: noise ends, and holds nothing") {
    Xoshiro rng{3};
    std::string noise(4U << 20U, '\0');
    for (auto& c : noise) c = static_cast<char>(rng.next());
    const auto found = read(noise);
    CHECK(found.whole.empty());
    CHECK(found.damaged_bytes + found.torn_bytes <= noise.size());
    CHECK(found.damaged_bytes + found.torn_bytes > noise.size() / 2);
}

}  // namespace
}  // namespace opsrelay::spool
