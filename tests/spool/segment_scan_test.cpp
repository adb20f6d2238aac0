#include "spool/segment_scan.h"

#include <doctest/doctest.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/write_batch.h>

#include <fstream>

#include "core/random.h"
#include "samples.h"
#include "spool/keys.h"
#include "spool/rocks_options.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

std::vector<Seq> found_in(std::string_view bytes) {
    std::vector<Seq> all;
    scan_segments(bytes, [&all](const FoundSegment& found) {
        all.push_back(found.segment.first_seq);
        return true;
    });
    return all;
}

/// Segments that LZ4 makes smaller, and some that it does not: 3 records each, of `bytes`.
std::string value_of(Seq first, std::size_t bytes) {
    auto segment = test::make_segment(fmt::format("s{}", first), 3, kDefaultLane, bytes);
    if (bytes == 0) segment.payload = std::string(300, 'x') + "\ny\nz\n";
    std::string scratch;
    return std::string(encode_segment(segment, first, scratch));
}

const std::vector<Seq> kAll{1, 4, 7, 10, 13, 16, 19, 22, 25, 28};

std::string log_bytes(std::size_t record_bytes) {
    rocksdb::WriteBatch batch;
    for (const auto first : kAll) {
        const auto key = seq_key(first);
        REQUIRE(batch.Put({key.data(), key.size()}, value_of(first, record_bytes)).ok());
    }
    return batch.Data();
}

std::string table_bytes(std::size_t record_bytes) {
    const test::TempDir dir;
    const auto options = make_file_options("seg_0");
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(options), options);
    REQUIRE(writer.Open(dir / "t.sst").ok());
    for (const auto first : kAll) {
        const auto key = seq_key(first);
        REQUIRE(writer.Put({key.data(), key.size()}, value_of(first, record_bytes)).ok());
    }
    REQUIRE(writer.Finish().ok());
    std::ifstream stream(dir / "t.sst", std::ios::binary);
    return {(std::istreambuf_iterator<char>(stream)), {}};
}

TEST_CASE("spool/segment_scan: every segment of a batch and of a table is found") {
    for (const std::size_t bytes : {0U, 40U, 2000U, 60'000U}) {
        CAPTURE(bytes);
        CHECK(found_in(log_bytes(bytes)) == kAll);
        CHECK(found_in(table_bytes(bytes)) == kAll);
    }
    CHECK(found_in("").empty());
    CHECK(found_in("OPRS").empty());
}

TEST_CASE("spool/segment_scan: the search ends when it is told to") {
    std::size_t visited = 0;
    scan_segments(log_bytes(40), [&visited](const FoundSegment&) { return ++visited < 3; });
    CHECK(visited == 3);
}

TEST_CASE("spool/segment_scan: whatever is cut off or flipped, the other segments are found") {
    for (const bool table : {false, true}) {
        for (const std::size_t record_bytes : {0U, 700U}) {
            CAPTURE(table);
            CAPTURE(record_bytes);
            const auto bytes = table ? table_bytes(record_bytes) : log_bytes(record_bytes);
            Xoshiro rng{5};
            for (int round = 0; round < 300; ++round) {
                auto broken = bytes;
                const auto at = rng.next() % bytes.size();
                CAPTURE(at);
                broken[at] = static_cast<char>(static_cast<unsigned char>(broken[at]) ^
                                               (1U << rng.next() % 8));
                CHECK(found_in(broken).size() + 1 >= kAll.size());
                const auto cut = found_in(std::string_view(bytes).substr(0, at));
                CHECK(std::equal(cut.begin(), cut.end(), kAll.begin()));
                const auto rest = found_in(std::string_view(bytes).substr(at));
                CHECK(cut.size() + rest.size() + 1 >= kAll.size());
            }
        }
    }
}

TEST_CASE("spool/segment_scan: noise and lengths that lie are no segments") {
    Xoshiro rng{9};
    for (int round = 0; round < 200; ++round) {
        std::string noise(4096, '\0');
        for (auto& c : noise) c = static_cast<char>(rng.next());
        auto header = value_of(1, 100).substr(0, rng.next() % 60);
        noise.replace(rng.next() % 2000, header.size(), header);
        CHECK(found_in(noise).empty());
    }
}

}  // namespace
}  // namespace opsrelay::spool
