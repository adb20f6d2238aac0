// What RocksDB tells of its own accord. Used by RocksStore only.
#pragma once

#include <rocksdb/listener.h>

#include <atomic>
#include <cstdint>

#include "spool/keys.h"

namespace opsrelay::spool {

/// Called on the thread that writes and on RocksDB's own: only atomics.
class Watch final : public rocksdb::EventListener {
public:
    void OnMemTableSealed(const rocksdb::MemTableInfo& info) override {
        // All families are flushed together, so the segment families stand for each other.
        if (parse_segment_family(info.cf_name)) seals_.fetch_add(1, std::memory_order_relaxed);
    }
    void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
        // A block that cannot be read costs what it held, which read() reports. RocksDB would take
        // no write any more, now and after each start.
        if (reason == rocksdb::BackgroundErrorReason::kCompaction && error->IsCorruption()) {
            *error = rocksdb::Status::OK();
            damaged_.store(true, std::memory_order_relaxed);
        } else if (error->severity() >= rocksdb::Status::kFatalError) {
            fatal_.store(true, std::memory_order_relaxed);
        }
    }
    [[nodiscard]] std::uint64_t seals() const noexcept {
        return seals_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] bool fatal() const noexcept { return fatal_.load(std::memory_order_relaxed); }
    /// A compaction met a damaged table since this was last called. It begins again and again
    /// unless it is forbidden.
    [[nodiscard]] bool take_damage() noexcept {
        return damaged_.load(std::memory_order_relaxed) &&
               damaged_.exchange(false, std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> seals_{0};
    std::atomic<bool> fatal_{false};
    std::atomic<bool> damaged_{false};
};

}  // namespace opsrelay::spool
