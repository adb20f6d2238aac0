#include "offline.h"

#include <boost/asio/io_context.hpp>
#include <memory>
#include <set>
#include <utility>

#include "core/log.h"
#include "operate/desk.h"
#include "spool/offline.h"
#include "spool/rocks_setup.h"
#include "spool/settler.h"

namespace opsrelay {

namespace {

/// Everything runs on the caller's thread.
class OfflineSpool {
public:
    OfflineSpool(std::unique_ptr<spool::Store> store, const config::Config& config)
        : store_(std::move(store)),
          settler_(io_.get_executor(), *store_, totals_),
          desk_(*store_, settler_, rng_, config.events,
                {.configured = [this](LaneId lane) { return configured_.contains(lane); },
                 .sending = false,
                 .replayed = [](LaneId) {},
                 .paused = [](LaneId, bool) {},
                 .flush = [](LaneId) {}}) {
        settler_.adopt(true);
        for (const auto& state : store_->lanes()) {
            if (config.lanes.contains(state.name)) configured_.insert(state.lane);
        }
    }
    OfflineSpool(const OfflineSpool&) = delete;
    OfflineSpool& operator=(const OfflineSpool&) = delete;
    ~OfflineSpool() { store_->close(); }

    cli::HttpReply answer(std::string_view path, std::string_view body) {
        auto made = desk_.answer(path, body);
        return {static_cast<int>(made.status), std::move(made.body)};
    }

private:
    asio::io_context io_;  // never run: the settler needs an executor for its other callers
    Xoshiro rng_ = Xoshiro::from_system();
    std::unique_ptr<spool::Store> store_;
    std::set<LaneId> configured_;
    observe::StorageTotals totals_;
    spool::Settler settler_;
    operate::Desk desk_;
};

}  // namespace

Result<cli::Ask> open_spool_offline(const config::Config& config) {
    if (auto there = spool::must_hold(config.spool, "db/."); !there) return there.error();
    log::configure(log::Format::automatic, log::Level::error);
    spool::RocksSetup setup;
    setup.lanes.clear();  // those that are there
    setup.only_as_is = true;
    auto store = spool::open_rocks_store(config.spool, setup);
    if (!store) return store.error();
    // Shared: a std::function is copied.
    const auto spool = std::make_shared<OfflineSpool>(std::move(*store), config);
    return cli::Ask(
        [spool](std::string_view path, std::string_view body) -> Result<cli::HttpReply> {
            return spool->answer(path, body);
        });
}

}  // namespace opsrelay
