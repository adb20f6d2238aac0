#include "lanes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "config/config.h"
#include "config/reload.h"
#include "core/assert.h"
#include "core/log.h"

namespace opsrelay {

struct Lanes::Host {
    Host(asio::any_io_executor forward, Clock& clock) : tasks(std::move(forward), clock) {}

    LaneName name;
    forward::Options options;
    std::unique_ptr<forward::HttpUpstream> upstream;
    std::optional<forward::KeyFile> key_file;
    TaskGroup tasks;  // watch the key
};

Lanes::Change::Change() = default;
Lanes::Change::~Change() = default;

Lanes::Lanes(asio::any_io_executor forward, Clock& clock, PlanStates& plans)
    : forward_(std::move(forward)),
      clock_(clock),
      plans_(plans),
      resolver_(forward_, clock),
      ending_(forward_, clock) {}

Lanes::~Lanes() = default;

Result<std::unique_ptr<Lanes::Host>> Lanes::make_host(const std::string& name,
                                                      const forward::Options& options) {
    auto upstream = forward::HttpUpstream::make(forward_, clock_, resolver_, options);
    if (!upstream) {
        if (name == config::kDefaultLaneName) return upstream.error();
        return with_prefix(upstream.error(), fmt::format("lane {}", name));
    }
    auto host = std::make_unique<Host>(forward_, clock_);
    host->name.name = name;
    host->options = options;
    host->upstream = std::move(*upstream);
    return host;
}

Result<void> Lanes::open(const Settings& settings, milliseconds max_age) {
    for (const auto& [name, upstream] : settings) {
        auto options = upstream;
        options.max_age = max_age;
        auto host = make_host(name, options);
        if (!host) return host.error();
        hosts_.push_back(std::move(*host));
    }
    return {};
}

Result<void> Lanes::number_in(spool::Store& store) {
    for (auto& host : hosts_) {
        const auto lane = store.make_lane(host->name.name);
        if (!lane) return lane.error();
        host->name.lane = *lane;
    }
    return {};
}

Pipeline::Lane Lanes::describe(Host& host) {
    return {host.name, host.options, *host.upstream, plans_.of(host.name.lane)};
}

std::vector<Pipeline::Lane> Lanes::list() {
    std::vector<Pipeline::Lane> lanes;
    for (auto& host : hosts_) lanes.push_back(describe(*host));
    return lanes;
}

LaneId Lanes::number(std::string_view name) const {
    const auto found = std::find_if(hosts_.begin(), hosts_.end(),
                                    [name](const auto& host) { return host->name.name == name; });
    OPSRELAY_ASSERT(found != hosts_.end());
    return (*found)->name.lane;
}

void Lanes::start(Pipeline& pipeline) {
    pipeline_ = &pipeline;
    for (auto& host : hosts_) begin(*host);
}

void Lanes::use_key(LaneId lane, const Secret& key) {
    if (auto* const pump = pipeline_->find_pump(lane)) pump->set_key(key);
}

void Lanes::begin(Host& host) {
    const auto& path = host.options.api_key_file;
    const auto lane = host.name.lane;
    if (path.empty()) return use_key(lane, host.options.api_key);
    host.key_file.emplace(path, clock_);
    if (auto key = host.key_file->load()) {
        use_key(lane, *key);
    } else {
        log::warn("forward",
                  "the API key could not be read; the file is read again when it changes",
                  {{"lane", host.name.name}, {"error", key.error().context}});
        use_key(lane, {});
    }
    auto* const file = &*host.key_file;  // outlives the pump
    pipeline_->pump(lane).set_key_source([file] { return file->read_again(); });
    auto use = [this, lane](const Secret& key) { use_key(lane, key); };
    host.tasks.spawn("key", host.key_file->watch(std::move(use)));
}

asio::awaitable<Result<std::unique_ptr<Lanes::Change>>> Lanes::prepare(const Settings& settings) {
    auto change = std::make_unique<Change>();
    for (const auto& [name, options] : settings) {
        const auto known =
            std::find_if(hosts_.begin(), hosts_.end(),
                         [&name = name](const auto& h) { return h->name.name == name; });
        if (known != hosts_.end() && config::same_upstream((*known)->options, options)) {
            change->stays_.insert(name);
            continue;
        }
        auto host = make_host(name, options);
        if (!host) co_return host.error();
        change->begins_.push_back(std::move(*host));
    }
    for (auto& host : change->begins_) {
        const auto lane = co_await pipeline_->make_lane(host->name.name);
        if (!lane) co_return lane.error();
        host->name.lane = *lane;
    }
    co_return change;
}

LaneId Lanes::number(const Change& change, std::string_view name) const {
    for (const auto& host : change.begins_) {
        if (host->name.name == name) return host->name.lane;
    }
    return number(name);
}

asio::awaitable<void> Lanes::end(Host& host, TimePoint deadline) {
    host.tasks.cancel(asio::cancellation_type::terminal);
    co_await host.tasks.join();
    co_await pipeline_->remove_lane(host.name.lane, deadline);
}

asio::awaitable<void> Lanes::apply(std::unique_ptr<Change> change, milliseconds max_age,
                                   TimePoint deadline) {
    const auto ends = std::stable_partition(hosts_.begin(), hosts_.end(), [&](const auto& host) {
        return change->stays_.contains(host->name.name);
    });
    for (auto it = ends; it != hosts_.end(); ++it) ending_.spawn("lane", end(**it, deadline));
    co_await ending_.join();
    hosts_.erase(ends, hosts_.end());
    for (auto& host : hosts_) pipeline_->pump(host->name.lane).set_max_age(max_age);
    for (auto& made : change->begins_) {
        auto& host = *hosts_.emplace_back(std::move(made));
        host.options.max_age = max_age;
        co_await pipeline_->add_lane(describe(host));
        begin(host);
    }
}

asio::awaitable<void> Lanes::stop() {
    for (auto& host : hosts_) host->tasks.cancel(asio::cancellation_type::terminal);
    for (auto& host : hosts_) co_await host->tasks.join();
}

}  // namespace opsrelay
