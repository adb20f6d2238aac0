// Events as they pass, for an operator who watches (`opsrelay tail`). What happened to one is seen
// where its outcome is decided; nothing is gathered while nobody watches.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/enum_table.h"
#include "core/event.h"

namespace opsrelay::observe {

namespace asio = boost::asio;

/// What happened to an event. All but `accepted` and `retried` are its end.
enum class Sight : std::uint8_t {
    accepted,
    duplicate,
    rejected,
    shed,
    delivered,
    retried,
    dead,
    dropped
};
inline constexpr std::array<EnumName<Sight>, 8> kSights{{
    {Sight::accepted, "accepted"},    // taken in; one that only the disk knows ends as a duplicate
    {Sight::duplicate, "duplicate"},  // its reason: same, conflict, unknown
    {Sight::rejected, "rejected"},
    {Sight::shed, "shed"},
    {Sight::delivered, "delivered"},
    {Sight::retried, "retried"},  // an attempt failed, another one follows
    {Sight::dead, "dead"},
    {Sight::dropped, "dropped"},  // several at a time, without their fields
}};
static_assert(dense(kSights));
constexpr std::string_view to_string(Sight s) { return kSights.at(index_of(s)).name; }

/// One of Sight each; bits by index_of().
using SightSet = std::uint32_t;
inline constexpr SightSet kAllSights = (SightSet{1} << kSights.size()) - 1;
[[nodiscard]] constexpr SightSet bit(Sight sight) noexcept {
    return SightSet{1} << index_of(sight);
}

/// The fields of an event that may be shown, each cut to kShownMax bytes: no users, no tenants, no
/// metadata, no content.
struct ShownFields {
    std::string id;
    std::string provider;
    std::string model;
    std::string status;
    std::optional<std::uint64_t> input_tokens;
    std::optional<std::uint64_t> output_tokens;
    std::optional<std::uint64_t> total_tokens;
};
inline constexpr std::size_t kShownMax = 256;
/// Of an event's JSON; what it lacks, or has in another type, is empty.
[[nodiscard]] ShownFields read_shown(std::string_view json);

struct Sighting {
    Sight sight = Sight::accepted;
    LaneId lane = kDefaultLane;
    std::string reason;        // "" when there is none
    std::uint64_t events = 1;  // more than one: without fields
    ShownFields fields;
};

/// Carries sightings to the thread of the watchers. It never waits: beyond its credit they are
/// counted as missed. The credit is what the watchers' thread grants, so that a thread that lags
/// or a flood of events costs no memory.
class Tap {
public:
    /// `watchers` runs the sink.
    explicit Tap(asio::any_io_executor watchers) : executor_(std::move(watchers)) {}
    Tap(const Tap&) = delete;
    Tap& operator=(const Tap&) = delete;

    // --- Any thread ---

    [[nodiscard]] bool watched() const noexcept {
        return wanted_.load(std::memory_order_relaxed) != 0;
    }
    [[nodiscard]] bool wants(Sight sight) const noexcept {
        return (wanted_.load(std::memory_order_relaxed) & bit(sight)) != 0;
    }
    /// Ask wants() first. With `json`, the event, its fields are read from there.
    void see(Sighting seen, std::string_view json = {});

    // --- The watchers' thread ---

    /// Before the first want().
    void set_sink(std::function<void(const Sighting&)> sink) { sink_ = std::move(sink); }
    /// What is gathered from now on; 0: nothing, at no cost.
    void want(SightSet sights) noexcept { wanted_.store(sights, std::memory_order_relaxed); }
    /// Adds to the credit, up to `most`. A sighting costs 1, and 1 more for each 4 KiB of its
    /// event.
    void grant(std::int64_t more, std::int64_t most) noexcept;
    /// Events that there was no credit for since the last call.
    [[nodiscard]] std::uint64_t take_missed() noexcept {
        return missed_.exchange(0, std::memory_order_relaxed);
    }

private:
    asio::any_io_executor executor_;
    std::function<void(const Sighting&)> sink_;
    std::atomic<SightSet> wanted_{0};
    std::atomic<std::int64_t> credit_{0};
    std::atomic<std::uint64_t> missed_{0};
};

}  // namespace opsrelay::observe
