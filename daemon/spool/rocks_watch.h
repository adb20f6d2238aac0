// What RocksDB tells of its own accord. Used by RocksStore only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace rocksdb {
class EventListener;
}

namespace opsrelay::spool {

/// What the listener heard. Written on the thread that writes and on RocksDB's own, read on the
/// storage thread: only atomics.
class Watch {
public:
    /// Memory tables of segment families that were sealed.
    [[nodiscard]] std::uint64_t seals() const noexcept {
        return seals_.load(std::memory_order_relaxed);
    }
    /// Nothing is written any more until the spool is opened again.
    [[nodiscard]] bool fatal() const noexcept { return fatal_.load(std::memory_order_relaxed); }
    /// A compaction met a damaged table since this was last called. It begins again and again
    /// unless it is forbidden.
    [[nodiscard]] bool take_damage() noexcept {
        return damaged_.load(std::memory_order_relaxed) &&
               damaged_.exchange(false, std::memory_order_relaxed);
    }

    /// RocksDB could not begin a new log when a memory table was full. It has lost count of who
    /// uses its families then, and closing it would end the process (rocks_write.cpp).
    [[nodiscard]] bool unclosable() const noexcept {
        return unclosable_.load(std::memory_order_relaxed);
    }
    /// While the storage thread itself asks for new memory tables, which is safe.
    void set_flushing(bool flushing) noexcept {
        flushing_.store(flushing, std::memory_order_relaxed);
    }

    void note_seal() noexcept { seals_.fetch_add(1, std::memory_order_relaxed); }
    void note_fatal() noexcept { fatal_.store(true, std::memory_order_relaxed); }
    void note_damage() noexcept { damaged_.store(true, std::memory_order_relaxed); }
    void note_failed_switch() noexcept {
        if (!flushing_.load(std::memory_order_relaxed)) {
            unclosable_.store(true, std::memory_order_relaxed);
        }
    }

private:
    std::atomic<std::uint64_t> seals_{0};
    std::atomic<bool> fatal_{false};
    std::atomic<bool> damaged_{false};
    std::atomic<bool> flushing_{false};
    std::atomic<bool> unclosable_{false};
};

/// The listener that tells `watch`; RocksDB may call it until its close ends.
[[nodiscard]] std::shared_ptr<rocksdb::EventListener> make_listener(std::shared_ptr<Watch> watch);

}  // namespace opsrelay::spool
