// The configured lanes of the daemon: for each an upstream, its API key and what upstream said
// last.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/plan_state.h"
#include "core/secret.h"
#include "core/task_group.h"
#include "forward/http_upstream.h"
#include "forward/key_file.h"
#include "forward/options.h"
#include "forward/resolver.h"
#include "pipeline.h"
#include "spool/store.h"

namespace opsrelay {

/// Thread: forward; open(), number_in() and list() before the threads run. stop() has returned
/// before it is destroyed.
class Lanes {
    /// One lane.
    struct Host;

public:
    /// By name; what the configuration says of each.
    using Settings = std::map<std::string, forward::Options, std::less<>>;

    /// `plans` outlives the object.
    Lanes(asio::any_io_executor forward, Clock& clock, PlanStates& plans);
    ~Lanes();
    Lanes(const Lanes&) = delete;
    Lanes& operator=(const Lanes&) = delete;

    /// Makes an upstream for each. Errors: config_invalid, naming key and value.
    [[nodiscard]] Result<void> open(const Settings& settings, milliseconds max_age);
    /// Gives a number to those that are new in the store. Errors: as Store::make_lane().
    [[nodiscard]] Result<void> number_in(spool::Store& store);
    /// For the pipeline.
    [[nodiscard]] std::vector<Pipeline::Lane> list();
    /// The lane's number in the store. It must be configured (asserted).
    [[nodiscard]] LaneId number(std::string_view name) const;

    /// Reads the API keys and watches their files. `pipeline` outlives stop().
    void start(Pipeline& pipeline);
    /// Lanes as they are to be, ready to be used: all that can fail has been done.
    class Change {
    public:
        Change();
        ~Change();
        Change(const Change&) = delete;
        Change& operator=(const Change&) = delete;

    private:
        friend class Lanes;
        std::vector<std::unique_ptr<Host>> begins_;
        std::set<std::string, std::less<>> stays_;  // names
    };
    /// Makes what the settings ask for and is not there yet; nothing changes so far, but for lanes
    /// that the store did not know: they have numbers then. Errors: config_invalid, naming key and
    /// value; as Store::make_lane(). After start(), as apply().
    [[nodiscard]] asio::awaitable<Result<std::unique_ptr<Change>>> prepare(
        const Settings& settings);
    /// The number of a lane that there will be (asserted).
    [[nodiscard]] LaneId number(const Change& change, std::string_view name) const;
    /// A lane whose settings changed stops and begins anew; requests in flight may finish until
    /// `deadline`. The others do not notice.
    [[nodiscard]] asio::awaitable<void> apply(std::unique_ptr<Change> change, milliseconds max_age,
                                              TimePoint deadline);

    /// Ends the watching.
    [[nodiscard]] asio::awaitable<void> stop();

private:
    [[nodiscard]] Result<std::unique_ptr<Host>> make_host(const std::string& name,
                                                          const forward::Options& options);
    void begin(Host& host);
    [[nodiscard]] Pipeline::Lane describe(Host& host);
    asio::awaitable<void> end(Host& host, TimePoint deadline);
    void use_key(LaneId lane, const Secret& key);

    asio::any_io_executor forward_;
    Clock& clock_;
    PlanStates& plans_;
    forward::Resolver resolver_;
    TaskGroup ending_;  // lanes that stop, at the same time

    Pipeline* pipeline_ = nullptr;  // from start() on
    std::vector<std::unique_ptr<Host>> hosts_;
};

}  // namespace opsrelay
