// Segments and dead letters for the spool's tests.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "spool/store.h"

namespace opsrelay::test {

/// `count` records named "`tag`.0", "`tag`.1", ..., padded to about `bytes` each.
inline spool::Segment make_segment(std::string_view tag, std::uint32_t count,
                                   LaneId lane = kDefaultLane, std::size_t bytes = 0) {
    spool::Segment segment;
    segment.lane = lane;
    segment.count = count;
    segment.received_unix_ms = 1'700'000'000'000;
    segment.id_clock_ms = segment.received_unix_ms;
    std::uint64_t noise = std::hash<std::string_view>{}(tag) | 1U;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto record = fmt::format("{}.{}", tag, i);
        while (record.size() < bytes) {  // does not compress
            noise = noise * 6364136223846793005U + 1442695040888963407U;
            record += static_cast<char>('!' + (noise >> 33U) % 90U);
        }
        segment.payload += record + "\n";
        segment.ids.push_back({std::hash<std::string>{}(record), i});
    }
    return segment;
}

inline spool::DeadLetter make_dead(Seq seq, std::string payload,
                                   spool::DeadKind kind = spool::DeadKind::upstream) {
    spool::DeadLetter letter;
    letter.kind = kind;
    letter.seq = seq;
    letter.unix_ms = 1'700'000'000'123;
    letter.reason = "upstream_400";
    letter.detail = "totalTokens: must not be negative";
    letter.source = "upstream";
    letter.id = "id-1";
    letter.provider = "openai";
    letter.model = "gpt-4o";
    letter.bytes = payload.size();
    letter.hash = 42;
    letter.payload = std::move(payload);
    return letter;
}

inline spool::DeferredRecord make_deferred(Seq seq, std::string payload,
                                           std::int64_t due_unix_ms = 1'700'000'060'000) {
    spool::DeferredRecord record;
    record.seq = seq;
    record.due_unix_ms = due_unix_ms;
    record.received_unix_ms = 1'700'000'000'000;
    record.failures = 20;
    record.payload = std::move(payload);
    return record;
}

/// The deferred records of a lane that can be read, as "number:event:due".
inline std::vector<std::string> deferred_of(spool::Store& store, LaneId lane = kDefaultLane) {
    std::vector<std::string> all;
    for (const auto& state : store.lanes()) {
        if (state.lane != lane) continue;
        for (const auto& entry : state.deferred) {
            const auto record = store.read_deferred(lane, entry.seq).value();
            if (!record) continue;
            all.push_back(
                fmt::format("{}:{}:{}", record->seq, record->payload, record->due_unix_ms));
        }
    }
    return all;
}

/// Dead letters of accepted records, to be put back as they were kept.
inline std::vector<spool::Revival> revivals(LaneId lane, const std::vector<Seq>& seqs) {
    std::vector<spool::Revival> all;
    for (const auto seq : seqs) all.push_back({.key = {spool::DeadKind::upstream, lane, seq}});
    return all;
}

/// Every dead letter, read in pages of `page` letters.
inline std::vector<spool::DeadLetter> all_dead(spool::Store& store, std::size_t page = 1000) {
    std::vector<spool::DeadLetter> all;
    std::optional<spool::DeadKey> from = spool::DeadKey{};
    while (from) {
        auto read = store.read_dead({.from = *from, .letters_max = page}).value();
        all.insert(all.end(), read.letters.begin(), read.letters.end());
        from = read.next;
    }
    return all;
}

inline std::vector<std::string> records_of(const spool::RecordBatch& batch) {
    std::vector<std::string> records;
    for (std::size_t i = 0; i < batch.size(); ++i) records.emplace_back(batch.record(i));
    return records;
}

/// Everything from `from` to the end of the lane; unreadable records are "?".
inline std::vector<std::string> read_all(spool::Store& store, Seq from = 1,
                                         LaneId lane = kDefaultLane) {
    std::vector<std::string> all;
    for (;;) {
        const auto batch = store.read(lane, from).value();
        all.insert(all.end(), batch.lost, "?");
        const auto records = records_of(batch);
        all.insert(all.end(), records.begin(), records.end());
        if (records.empty()) return all;
        from = batch.first_seq + records.size();
    }
}

inline std::vector<IdHash> ids_of(spool::Store& store) {
    std::vector<IdHash> ids;
    store.replay_ids([&ids](const IdHash& id, std::int64_t) { ids.push_back(id); }).value();
    return ids;
}

inline std::vector<std::string> names(std::string_view tag, std::uint32_t begin,
                                      std::uint32_t end) {
    std::vector<std::string> all;
    for (auto i = begin; i < end; ++i) all.push_back(fmt::format("{}.{}", tag, i));
    return all;
}

/// A copy of an open spool's directory, as kill -9 would leave it. Files that RocksDB deletes
/// meanwhile are left out.
inline void copy_as_killed(const std::string& from, const std::string& to) {
    namespace fs = std::filesystem;
    fs::create_directories(to);
    for (const auto& entry : fs::directory_iterator(from)) {
        const auto target = fs::path(to) / entry.path().filename();
        std::error_code ec;
        if (entry.is_directory(ec)) {
            copy_as_killed(entry.path(), target);
        } else {
            fs::copy_file(entry.path(), target, ec);
        }
    }
}

}  // namespace opsrelay::test
