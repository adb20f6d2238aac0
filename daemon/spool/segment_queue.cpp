#include "spool/segment_queue.h"

#include <iterator>
#include <utility>

#include "spool/options.h"

namespace opsrelay::spool {

namespace {

// One is filled while another is committed.
constexpr std::size_t kSparesMax = 2;

// Empty, with its capacity kept.
void clear(Segment& segment) {
    segment.payload.clear();
    segment.ids.clear();
    segment.maybe.clear();
    segment.count = 0;
}

bool of_same_time(const Segment& into, const Segment& more) {
    return more.received_unix_ms - into.received_unix_ms <= kSegmentSpanMax.count() &&
           more.received_unix_ms >= into.received_unix_ms;  // the wall clock may have stepped back
}

bool fits(const Segment& into, const Segment& more) {
    return into.payload.size() + more.payload.size() <= kSegmentRawBytesMax.count &&
           into.count + more.count <= kSegmentEventsMax && of_same_time(into, more);
}

Segment* find_lane(Group& group, LaneId lane) {
    for (auto& segment : group.segments) {
        if (segment.lane == lane) return &segment;
    }
    return nullptr;
}

}  // namespace

std::uint64_t SegmentQueue::weight(const Segment& segment,
                                   const std::vector<DeadLetter>& rejected) noexcept {
    auto sum = segment.payload.size() + segment.ids.size() * sizeof(IdHash) +
               segment.maybe.size() * sizeof(MaybeSeen);
    for (const auto& letter : rejected) sum += sizeof(DeadLetter) + letter.payload.size();
    return sum;
}

bool SegmentQueue::push(Burst& burst) {
    const auto bytes = weight(burst.segment, burst.rejected);
    const std::lock_guard lock(mutex_);
    totals_ = burst.totals;
    if (burst.segment.count == 0 && burst.rejected.empty()) return false;
    merge(burst);
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return std::exchange(storage_waits_, false);
}

void SegmentQueue::merge(Burst& burst) {
    auto& more = burst.segment;
    auto* into = groups_.empty() ? nullptr : find_lane(groups_.back(), more.lane);
    const bool full = into != nullptr && more.count > 0 && !fits(*into, more);
    const bool busy = full && of_same_time(*into, more);
    if (groups_.empty() || full) {
        groups_.emplace_back();
        into = nullptr;
    }
    auto& group = groups_.back();
    if (more.count > 0) {
        if (into == nullptr) {
            auto& fresh = group.segments.emplace_back();
            if (!spare_.empty()) {
                fresh = std::move(spare_.back());
                spare_.pop_back();
            } else if (busy) {
                // It will be full too: growing it would leave holes of all sizes in the heap. One
                // of each second with little in it would take much, while many wait for a disk.
                fresh.payload.reserve(kSegmentRawBytesMax.count);
            }
            fresh.lane = more.lane;
            fresh.received_unix_ms = more.received_unix_ms;
            into = &fresh;
        }
        into->payload.append(more.payload);
        into->ids.insert(into->ids.end(), more.ids.begin(), more.ids.end());
        for (auto maybe : more.maybe) {
            maybe.index += into->count;
            into->maybe.push_back(maybe);
        }
        into->count += more.count;
        group.events += more.count;
    }
    group.last = burst.last;
    std::move(burst.rejected.begin(), burst.rejected.end(), std::back_inserter(group.rejected));
    burst.rejected.clear();
    clear(more);
}

std::optional<Group> SegmentQueue::take() {
    const std::lock_guard lock(mutex_);
    if (groups_.empty()) {
        storage_waits_ = true;
        return std::nullopt;
    }
    auto group = std::move(groups_.front());
    groups_.pop_front();
    std::uint64_t bytes = 0;
    for (const auto& segment : group.segments) bytes += weight(segment, {});
    bytes += weight({}, group.rejected);
    bytes_.fetch_sub(bytes, std::memory_order_relaxed);
    return group;
}

void SegmentQueue::recycle(Group group) {
    for (auto& segment : group.segments) clear(segment);
    const std::lock_guard lock(mutex_);
    for (auto& segment : group.segments) {
        if (spare_.size() == kSparesMax) break;
        spare_.push_back(std::move(segment));
    }
}

Position SegmentQueue::newest() const {
    const std::lock_guard lock(mutex_);
    return groups_.empty() ? 0 : groups_.back().last;
}

SegmentQueue::Snapshot SegmentQueue::snapshot() const {
    const std::lock_guard lock(mutex_);
    Snapshot view{.totals = totals_, .events = 0};
    for (const auto& group : groups_) view.events += group.events;
    return view;
}

}  // namespace opsrelay::spool
