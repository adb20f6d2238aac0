#include "forward/batcher.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/assert.h"

namespace opsrelay::forward {

Batcher::Batcher(Seq first, std::size_t in_flight_max)
    : in_flight_max_(std::max<std::size_t>(in_flight_max, 1)),
      next_read_(first),
      next_fresh_(first) {}

std::optional<Seq> Batcher::want_read() const {
    if (caught_up_ || fresh_ > in_flight_max_ / 4 || held_bytes_ >= held_max_.count) {
        return std::nullopt;
    }
    // Records beyond the span could not be sent anyway.
    if (!loaded_.empty() && next_read_ >= *oldest_unsettled() + kSpanMax) return std::nullopt;
    return next_read_;
}

void Batcher::on_read(spool::RecordBatch batch) {
    const bool noted = std::exchange(noted_, false);
    if (batch.size() == 0) {
        caught_up_ = !noted;
        if (batch.lost > 0) next_read_ = std::max(next_read_, batch.first_seq);
        return;
    }
    Loaded loaded;
    loaded.first = batch.first_seq;
    loaded.count = batch.size();
    loaded.done.resize(batch.size());
    for (const auto index : batch.settled) loaded.done[index] = true;
    // Forgotten while they were being read.
    for (auto seq = loaded.first; seq < std::min(next_read_, loaded.first + loaded.count); ++seq) {
        loaded.done[seq - loaded.first] = true;
    }
    loaded.open =
        static_cast<std::size_t>(std::count(loaded.done.begin(), loaded.done.end(), false));
    loaded.needed = loaded.open;
    while (loaded.first_open < loaded.count && loaded.done[loaded.first_open]) ++loaded.first_open;
    loaded.received_unix_ms = batch.received_unix_ms;
    loaded.bytes = batch.payload.size();
    loaded.segment = std::make_shared<const spool::RecordBatch>(std::move(batch));
    next_read_ = std::max(next_read_, loaded.first + loaded.count);
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
    for (auto loaded = at_or_after(next_fresh_); loaded != loaded_.end(); ++loaded) {
        next_fresh_ = std::max(next_fresh_, loaded->first);
        while (next_fresh_ < loaded->first + loaded->count) {
            if (!loaded->done[next_fresh_ - loaded->first]) return;
            ++next_fresh_;
        }
    }
}

std::deque<Batcher::Loaded>::iterator Batcher::at_or_after(Seq seq) {
    return std::lower_bound(loaded_.begin(), loaded_.end(), seq,
                            [](const Loaded& l, Seq s) { return l.first + l.count <= s; });
}

Batcher::Loaded& Batcher::find(Seq seq) {
    const auto found = at_or_after(seq);
    OPSRELAY_ASSERT(found != loaded_.end());
    OPSRELAY_ASSERT(found->first <= seq);
    return *found;
}

std::optional<Seq> Batcher::oldest_unsettled() const noexcept {
    if (loaded_.empty()) return std::nullopt;
    return loaded_.front().first + loaded_.front().first_open;
}

std::optional<std::int64_t> Batcher::oldest_received_unix_ms() const noexcept {
    if (loaded_.empty()) return std::nullopt;
    return loaded_.front().received_unix_ms;
}

std::size_t Batcher::span() const noexcept {
    const auto oldest = oldest_unsettled();
    return oldest && next_fresh_ > *oldest ? next_fresh_ - *oldest : 0;
}

bool Batcher::has_fresh() const noexcept {
    return fresh_ > 0 && out_ < in_flight_max_ && span() < kSpanMax;
}

bool Batcher::exhausted() const noexcept {
    if (fresh_ > 0) return !has_fresh();
    return !caught_up_ && !want_read();
}

bool Batcher::held_up() const noexcept {
    if (span() >= kSpanMax) return stuck_.contains(*oldest_unsettled());
    return !stuck_.empty() && out_ == 0 && fresh_ == 0 && held_bytes_ >= held_max_.count;
}

std::optional<Item> Batcher::take_fresh() {
    if (!has_fresh()) return std::nullopt;
    const auto& loaded = find(next_fresh_);
    const auto index = static_cast<std::size_t>(next_fresh_ - loaded.first);
    Item item;
    item.seq = next_fresh_;
    item.received_unix_ms = loaded.received_unix_ms;
    item.payload = loaded.segment->record(index);
    item.segment = loaded.segment;
    --fresh_;
    ++out_;
    ++next_fresh_;
    skip_settled();
    return item;
}

std::optional<Item> Batcher::next(TimePoint now) {
    while (!due_.empty() && due_.begin()->first <= now) {
        const auto seq = due_.begin()->second;
        (stuck_.contains(seq) ? stuck_ready_ : ready_).insert(seq);
        due_.erase(due_.begin());
    }
    if (!stuck_ready_.empty() && stuck_from_ <= now) {
        stuck_from_ = now + kStuckGap;
        return take_again(*stuck_ready_.begin());
    }
    if (!ready_.empty()) return take_again(*ready_.begin());
    return take_fresh();
}

Item Batcher::take_again(Seq seq) {
    const auto found = again_.find(seq);
    OPSRELAY_ASSERT(found != again_.end());
    auto item = std::move(found->second.item);
    due_.erase({found->second.due, seq});
    ready_.erase(seq);
    stuck_ready_.erase(seq);
    again_.erase(found);
    return item;
}

std::optional<Item> Batcher::next_probe() {
    const auto least =
        std::min_element(again_.begin(), again_.end(), [](const auto& a, const auto& b) {
            return a.second.item.failures < b.second.item.failures;
        });
    if (least == again_.end() || (least->second.item.failures > 0 && has_fresh())) {
        return take_fresh();
    }
    return take_again(least->first);
}

TimePoint Batcher::next_due() const noexcept {
    // A record that is ready was due in the past: the time it was due at says "now".
    if (!ready_.empty()) return again_.at(*ready_.begin()).due;
    auto due = TimePoint::max();
    if (!stuck_ready_.empty()) due = std::max(stuck_from_, again_.at(*stuck_ready_.begin()).due);
    if (due_.empty()) return due;
    // Too early for a stuck record while another one holds the gap: that costs one look.
    return std::min(due, due_.begin()->first);
}

void Batcher::put_back(Item item, TimePoint due) {
    const auto seq = item.seq;
    if (item.failures >= kStuckFailures) note_stuck(item);
    const auto [where, added] = again_.emplace(seq, Waiting{std::move(item), due});
    OPSRELAY_ASSERT(added);
    due_.emplace(due, seq);
}

void Batcher::note_stuck(Item& item) {
    const auto [found, is_new] = stuck_.try_emplace(item.seq, 0);
    if (is_new) --out_;
    const auto bytes = item.payload.size();
    if (found->second > 0 || stuck_bytes_ + bytes > held_max_.count) return;
    auto own = std::make_shared<spool::RecordBatch>();
    own->lane = item.segment->lane;
    own->first_seq = item.seq;
    own->received_unix_ms = item.received_unix_ms;
    own->payload = item.payload;
    own->payload += '\n';
    own->offsets = {0, static_cast<std::uint32_t>(own->payload.size())};
    item.payload = own->record(0);
    item.segment = std::move(own);
    found->second = bytes;
    stuck_bytes_ += bytes;
    release(find(item.seq));
}

void Batcher::release(Loaded& loaded) {
    if (--loaded.needed > 0) return;
    held_bytes_ -= loaded.bytes;
    loaded.segment.reset();
}

void Batcher::settled(Seq seq) {
    auto& loaded = find(seq);
    const auto index = static_cast<std::size_t>(seq - loaded.first);
    OPSRELAY_ASSERT(!loaded.done[index]);
    loaded.done[index] = true;
    --loaded.open;
    --unsettled_;
    while (loaded.first_open < loaded.count && loaded.done[loaded.first_open]) {
        ++loaded.first_open;
    }
    std::size_t copied = 0;
    if (const auto found = stuck_.find(seq); found != stuck_.end()) {
        copied = found->second;
        stuck_bytes_ -= copied;
        stuck_.erase(found);
        stuck_from_ = TimePoint::min();  // upstream may be well again: on with the others
    } else {
        --out_;
    }
    if (copied == 0) release(loaded);
    if (loaded.open == 0) ++done_;
    forget_done();
}

// Those in front at once. Behind a stuck record there may be one for each of the records that have
// passed it: they go when they are half of all, so that each costs little.
void Batcher::forget_done() {
    while (!loaded_.empty() && loaded_.front().open == 0) {
        loaded_.pop_front();
        --done_;
    }
    if (2 * done_ <= loaded_.size()) return;
    std::erase_if(loaded_, [](const Loaded& loaded) { return loaded.open == 0; });
    done_ = 0;
}

std::optional<Seq> Batcher::end_of_older(std::int64_t received_unix_ms) const noexcept {
    std::optional<Seq> end;
    for (const auto& loaded : loaded_) {
        if (loaded.received_unix_ms >= received_unix_ms) break;
        end = loaded.first + loaded.count;
    }
    return end;
}

Batcher::Forgotten Batcher::forget_below(Seq end) {
    Forgotten forgotten{.end = end, .kept = {}};
    std::vector<Seq> gone;
    for (const auto& loaded : loaded_) {
        for (auto i = loaded.first_open; i < loaded.count; ++i) {
            const auto seq = loaded.first + i;
            if (seq >= forgotten.end) break;
            if (loaded.done[i]) continue;
            if (seq >= next_fresh_ || again_.contains(seq)) {
                gone.push_back(seq);
                continue;
            }
            if (forgotten.kept.empty()) {
                forgotten.end = std::min<Seq>(forgotten.end, seq + kSpanMax);
            }
            forgotten.kept.push_back(seq);
        }
    }
    forgotten.nothing = gone.empty() && forgotten.end <= next_read_;
    for (const auto seq : gone) {
        if (seq < next_fresh_) {
            std::ignore = take_again(seq);
        } else {  // as if it had been handed out
            --fresh_;
            ++out_;
        }
        settled(seq);
    }
    next_read_ = std::max(next_read_, forgotten.end);
    next_fresh_ = std::max(next_fresh_, forgotten.end);
    skip_settled();
    return forgotten;
}

}  // namespace opsrelay::forward
