// Who watches events pass: `opsrelay tail`, over admin.sock. Lines of JSON, bounded for each of
// them; what does not fit is counted and told.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/signal.h"
#include "core/task_group.h"
#include "observe/tap.h"

namespace opsrelay::control {

inline constexpr std::size_t kTailersMax = 4;
/// Of lines that one of them has not read.
inline constexpr std::size_t kTailBytesMax = 512U << 10U;
/// Sightings a second, of all together; and how many may come at once.
inline constexpr std::int64_t kTailRate = 10'000;
inline constexpr std::int64_t kTailBurst = 4'000;
/// An empty line goes out this often when there is nothing else: so each side knows of the other.
inline constexpr seconds kTailBeat{5};

struct TailFilter {
    observe::SightSet sights = observe::kAllSights;
    std::string lane;   // "": all
    std::string model;  // exactly this one; "": all
};
/// "outcome=dead,retried&lane=europe&model=gpt-4o", percent-encoded; "" is everything. `lanes` are
/// the names there are. Error: refused, with what is allowed.
[[nodiscard]] Result<TailFilter> parse_tail_query(std::string_view query,
                                                  std::span<const std::string> lanes);

/// `{"at":..,"outcome":..,"lane":..,"id":..,"provider":..,"model":..,"input_tokens":..,
/// "output_tokens":..,"total_tokens":..,"status":..,"reason":..}`, without what is empty; "events"
/// when it is more than one. With a newline.
[[nodiscard]] std::string tail_line(const observe::Sighting& seen, std::string_view lane,
                                    WallTime at);

/// The lanes that the spool has, configured or not.
struct TailLanes {
    std::function<std::string(LaneId)> name;  // "": it has none any more
    std::function<std::vector<std::string>()> names;
};

/// Thread: the executor's, which is the tap's. stop() has returned before it is destroyed, and so
/// are its readers.
class Tail {
public:
    Tail(asio::any_io_executor executor, Clock& clock, observe::Tap& tap, TailLanes lanes);
    Tail(const Tail&) = delete;
    Tail& operator=(const Tail&) = delete;

    /// One who watches, as long as it lives.
    class Reader {
    public:
        Reader(Tail& tail, TailFilter filter);
        Reader(const Reader&) = delete;
        Reader& operator=(const Reader&) = delete;
        ~Reader();
        /// Lines that came since the last call, then `{"not_shown":N}` when some did not fit; ""
        /// when none came by `due` or the caller is cancelled.
        [[nodiscard]] asio::awaitable<std::string> next(TimePoint due);

    private:
        friend class Tail;
        Tail& tail_;
        const TailFilter filter_;
        std::string lines_;
        std::uint64_t not_shown_ = 0;
    };
    /// As parse_tail_query(), with the lanes there are now.
    [[nodiscard]] Result<TailFilter> filter_of(std::string_view query) const {
        return parse_tail_query(query, lanes_.names());
    }
    /// nullptr: kTailersMax watch already.
    [[nodiscard]] std::unique_ptr<Reader> join(TailFilter filter);
    [[nodiscard]] asio::awaitable<void> stop();

private:
    void take(const observe::Sighting& seen);
    void note_readers();
    asio::awaitable<void> tend();

    Clock& clock_;
    observe::Tap& tap_;
    const TailLanes lanes_;
    std::list<Reader*> readers_;
    bool tended_ = false;
    Signal news_;
    TaskGroup tasks_;
};

}  // namespace opsrelay::control
