#include "control/tail.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <charconv>
#include <optional>
#include <tuple>
#include <utility>

#include "core/json_text.h"
#include "core/time_stamp.h"

namespace opsrelay::control {

namespace {

constexpr milliseconds kGrantEvery{50};

std::optional<std::string> decode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        unsigned value = 0;
        const auto digits = text.substr(i + 1, 2);
        const auto parsed =
            std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
        if (digits.size() != 2 || parsed.ptr != digits.data() + 2) return std::nullopt;
        out += static_cast<char>(value);
        i += 2;
    }
    return out;
}

Result<observe::SightSet> parse_outcomes(std::string_view list) {
    observe::SightSet set = 0;
    while (!list.empty()) {
        const auto name = list.substr(0, list.find(','));
        list.remove_prefix(std::min(list.size(), name.size() + 1));
        const auto sight = parse_enum(observe::kSights, name);
        if (!sight) {
            std::string known;
            for (const auto& one : observe::kSights) {
                known += fmt::format("{}{}", known.empty() ? "" : ", ", one.name);
            }
            return Error{Errc::refused,
                         fmt::format("outcome: {} is none; there are {}", name, known)};
        }
        set |= observe::bit(*sight);
    }
    if (set == 0) return Error{Errc::refused, "outcome: name at least one"};
    return set;
}

Result<std::string> known_lane(const std::string& name, std::span<const std::string> lanes) {
    if (std::find(lanes.begin(), lanes.end(), name) != lanes.end()) return name;
    return Error{Errc::refused, fmt::format("lane: there is no \"{}\"; there are {}", name,
                                            fmt::join(lanes, ", "))};
}

}  // namespace

Result<TailFilter> parse_tail_query(std::string_view query, std::span<const std::string> lanes) {
    TailFilter filter;
    while (!query.empty()) {
        const auto pair = query.substr(0, query.find('&'));
        query.remove_prefix(std::min(query.size(), pair.size() + 1));
        const auto name = pair.substr(0, pair.find('='));
        const auto value = decode(pair.substr(std::min(pair.size(), name.size() + 1)));
        if (!value) return Error{Errc::refused, fmt::format("{}: broken percent-encoding", name)};
        if (name == "outcome") {
            const auto sights = parse_outcomes(*value);
            if (!sights) return sights.error();
            filter.sights = *sights;
        } else if (name == "lane") {
            auto lane = known_lane(*value, lanes);
            if (!lane) return lane.error();
            filter.lane = *std::move(lane);
        } else if (name == "model") {
            filter.model = *value;
        } else {
            return Error{Errc::refused, "there are the filters outcome, lane and model"};
        }
    }
    return filter;
}

std::string tail_line(const observe::Sighting& seen, std::string_view lane, WallTime at) {
    std::string out =
        fmt::format(R"({{"at":"{}","outcome":"{}")", TimeStamp(at).text(), to_string(seen.sight));
    const auto text = [&out](const char* key, std::string_view value) {
        if (!value.empty()) out += fmt::format(R"(,"{}":{})", key, json_string(value));
    };
    const auto number = [&out](const char* key, std::optional<std::uint64_t> value) {
        if (value) out += fmt::format(R"(,"{}":{})", key, *value);
    };
    const auto& fields = seen.fields;
    text("lane", lane);
    text("id", fields.id);
    text("provider", fields.provider);
    text("model", fields.model);
    number("input_tokens", fields.input_tokens);
    number("output_tokens", fields.output_tokens);
    number("total_tokens", fields.total_tokens);
    text("status", fields.status);
    text("reason", seen.reason);
    if (seen.events != 1) number("events", seen.events);
    out += "}\n";
    return out;
}

Tail::Tail(asio::any_io_executor executor, Clock& clock, observe::Tap& tap, TailLanes lanes)
    : clock_(clock),
      tap_(tap),
      lanes_(std::move(lanes)),
      news_(executor, clock),
      tasks_(executor, clock) {
    tap_.set_sink([this](const observe::Sighting& seen) { take(seen); });
}

Tail::Reader::Reader(Tail& tail, TailFilter filter) : tail_(tail), filter_(std::move(filter)) {
    tail_.readers_.push_back(this);
    tail_.note_readers();
}

Tail::Reader::~Reader() {
    tail_.readers_.remove(this);
    tail_.note_readers();
}

asio::awaitable<std::string> Tail::Reader::next(TimePoint due) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (lines_.empty() && not_shown_ == 0 && tail_.clock_.now() < due) {
        if (stop.cancelled() != asio::cancellation_type::none) break;
        co_await tail_.news_.wait_until(due);
    }
    auto out = std::exchange(lines_, {});
    if (const auto hidden = std::exchange(not_shown_, 0); hidden != 0) {
        out += fmt::format("{{\"not_shown\":{}}}\n", hidden);
    }
    co_return out;
}

std::unique_ptr<Tail::Reader> Tail::join(TailFilter filter) {
    if (readers_.size() >= kTailersMax) return nullptr;
    return std::make_unique<Reader>(*this, std::move(filter));
}

// What nobody wants is not gathered.
void Tail::note_readers() {
    observe::SightSet wanted = 0;
    for (const auto* const reader : readers_) wanted |= reader->filter_.sights;
    tap_.want(wanted);
    if (readers_.empty() || tended_) return;
    tended_ = true;
    std::ignore = tap_.take_missed();  // by those who watched before
    tap_.grant(kTailBurst, kTailBurst);
    tasks_.spawn("tail", tend());
}

// Grants the tap its credit as long as somebody watches.
asio::awaitable<void> Tail::tend() {
    constexpr std::int64_t kMore = kTailRate * kGrantEvery.count() / 1000;
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (!readers_.empty() && stop.cancelled() == asio::cancellation_type::none) {
        co_await clock_.sleep_for(kGrantEvery);
        tap_.grant(kMore, kTailBurst);
        const auto missed = tap_.take_missed();
        if (missed == 0) continue;
        for (auto* const reader : readers_) reader->not_shown_ += missed;
        news_.notify_all();
    }
    tended_ = false;
}

void Tail::take(const observe::Sighting& seen) {
    const auto lane = lanes_.name(seen.lane);
    std::string line;
    for (auto* const reader : readers_) {
        const auto& filter = reader->filter_;
        if ((filter.sights & observe::bit(seen.sight)) == 0) continue;
        if (!filter.lane.empty() && filter.lane != lane) continue;
        if (!filter.model.empty() && filter.model != seen.fields.model) continue;
        if (line.empty()) line = tail_line(seen, lane, clock_.wall_now());
        // After one that did not fit none does until the others were read: their order stays.
        if (reader->not_shown_ != 0 || reader->lines_.size() + line.size() > kTailBytesMax) {
            reader->not_shown_ += seen.events;
        } else {
            reader->lines_ += line;
        }
    }
    if (!line.empty()) news_.notify_all();
}

asio::awaitable<void> Tail::stop() {
    tasks_.cancel(asio::cancellation_type::terminal);
    co_await tasks_.join();
}

}  // namespace opsrelay::control
