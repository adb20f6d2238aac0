#include "forward/batcher.h"

#include <algorithm>
#include <utility>

#include "core/assert.h"

namespace opsrelay::forward {

Batcher::Batcher(Seq first, std::size_t in_flight_max)
    : in_flight_max_(std::max<std::size_t>(in_flight_max, 1)),
      next_read_(first),
      next_fresh_(first) {}

std::optional<Seq> Batcher::want_read() const {
    if (caught_up_ || fresh_ > in_flight_max_ / 4 || held_bytes_ >= kHeldBytesMax.count) {
        return std::nullopt;
    }
    // Records beyond the window could not be sent anyway.
    if (!loaded_.empty() && next_read_ >= *oldest_unsettled() + in_flight_max_) return std::nullopt;
    return next_read_;
}

void Batcher::on_read(spool::RecordBatch batch) {
    const bool noted = std::exchange(noted_, false);
    if (batch.size() == 0) {
        caught_up_ = !noted;
        if (batch.lost > 0) next_read_ = std::max(next_read_, batch.first_seq);
        return;
    }
    OPSRELAY_ASSERT(batch.first_seq >= next_read_);
    Loaded loaded;
    loaded.first = batch.first_seq;
    loaded.count = batch.size();
    loaded.open = batch.size() - batch.settled.size();
    loaded.done.resize(batch.size());
    for (const auto index : batch.settled) loaded.done[index] = true;
    while (loaded.first_open < loaded.count && loaded.done[loaded.first_open]) ++loaded.first_open;
    loaded.received_unix_ms = batch.received_unix_ms;
    loaded.bytes = batch.payload.size();
    loaded.segment = std::make_shared<const spool::RecordBatch>(std::move(batch));
    next_read_ = loaded.first + loaded.count;
    if (loaded.open == 0) return;
    fresh_ += loaded.open;
    unsettled_ += loaded.open;
    held_bytes_ += loaded.bytes;
    loaded_.push_back(std::move(loaded));
    skip_settled();
}

// Moves next_fresh_ to the next record that can be sent: over holes, and over what an earlier
// process settled ahead of the cursor.
void Batcher::skip_settled() {
    if (fresh_ == 0) return;
    for (const auto& loaded : loaded_) {
        if (loaded.first + loaded.count <= next_fresh_) continue;
        next_fresh_ = std::max(next_fresh_, loaded.first);
        while (next_fresh_ < loaded.first + loaded.count) {
            if (!loaded.done[next_fresh_ - loaded.first]) return;
            ++next_fresh_;
        }
    }
}

Batcher::Loaded* Batcher::find(Seq seq) {
    const auto after = std::upper_bound(loaded_.begin(), loaded_.end(), seq,
                                        [](Seq s, const Loaded& l) { return s < l.first; });
    if (after == loaded_.begin()) return nullptr;
    auto& candidate = *std::prev(after);
    return seq < candidate.first + candidate.count ? &candidate : nullptr;
}

std::optional<Seq> Batcher::oldest_unsettled() const noexcept {
    if (loaded_.empty()) return std::nullopt;
    return loaded_.front().first + loaded_.front().first_open;
}

std::optional<std::int64_t> Batcher::oldest_received_unix_ms() const noexcept {
    if (loaded_.empty()) return std::nullopt;
    return loaded_.front().received_unix_ms;
}

bool Batcher::has_fresh() const noexcept {
    if (fresh_ == 0) return false;
    const auto oldest = oldest_unsettled();
    return oldest && next_fresh_ < *oldest + in_flight_max_;
}

std::optional<Item> Batcher::take_fresh() {
    if (!has_fresh()) return std::nullopt;
    const auto* loaded = find(next_fresh_);
    OPSRELAY_ASSERT(loaded != nullptr);
    const auto index = static_cast<std::size_t>(next_fresh_ - loaded->first);
    Item item{next_fresh_, 0, loaded->received_unix_ms, loaded->segment->record(index),
              loaded->segment};
    --fresh_;
    ++next_fresh_;
    skip_settled();
    return item;
}

std::optional<Item> Batcher::next(TimePoint now) {
    for (auto it = again_.begin(); it != again_.end(); ++it) {
        if (it->second.due > now) continue;
        auto item = std::move(it->second.item);
        again_.erase(it);
        return item;
    }
    return take_fresh();
}

std::optional<Item> Batcher::next_probe() {
    const auto least =
        std::min_element(again_.begin(), again_.end(), [](const auto& a, const auto& b) {
            return a.second.item.failures < b.second.item.failures;
        });
    if (least == again_.end() || (least->second.item.failures > 0 && has_fresh())) {
        return take_fresh();
    }
    auto item = std::move(least->second.item);
    again_.erase(least);
    return item;
}

TimePoint Batcher::next_due() const noexcept {
    auto due = TimePoint::max();
    for (const auto& [seq, waiting] : again_) due = std::min(due, waiting.due);
    return due;
}

void Batcher::put_back(Item item, TimePoint due) {
    const auto seq = item.seq;
    const auto [where, added] = again_.emplace(seq, Waiting{std::move(item), due});
    OPSRELAY_ASSERT(added);
}

void Batcher::settled(Seq seq) {
    auto* loaded = find(seq);
    OPSRELAY_ASSERT(loaded != nullptr);
    const auto index = static_cast<std::size_t>(seq - loaded->first);
    OPSRELAY_ASSERT(!loaded->done[index]);
    loaded->done[index] = true;
    --loaded->open;
    --unsettled_;
    while (loaded->first_open < loaded->count && loaded->done[loaded->first_open]) {
        ++loaded->first_open;
    }
    if (loaded->open == 0) {
        held_bytes_ -= loaded->bytes;
        loaded->segment.reset();
    }
    while (!loaded_.empty() && loaded_.front().open == 0) loaded_.pop_front();
}

}  // namespace opsrelay::forward
