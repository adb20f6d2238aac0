// Pure: how far back the id log reaches. The log is cut in whole stretches, so what is remembered
// about it does not grow with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace opsrelay::spool {

/// Keeps at least the newest `ids_max` ids and at most an eighth (and one segment) more.
/// Thread: storage.
class IdLogMarks {
public:
    explicit IdLogMarks(std::size_t ids_max);

    /// Entry `number` with `ids` ids was appended; numbers rise.
    void add(std::uint64_t number, std::size_t ids);
    /// Forgets what is not needed any more; true when first_needed() moved.
    bool trim();
    /// The oldest entry to keep; 0 when there is none.
    [[nodiscard]] std::uint64_t first_needed() const noexcept;
    [[nodiscard]] std::size_t ids() const noexcept { return ids_; }

private:
    struct Stretch {
        std::uint64_t first = 0;
        std::size_t ids = 0;
    };
    std::size_t ids_max_;
    std::size_t stretch_ids_;
    std::deque<Stretch> stretches_;
    std::size_t ids_ = 0;
};

}  // namespace opsrelay::spool
