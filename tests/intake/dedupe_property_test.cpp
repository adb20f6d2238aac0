// Intake and storage together over many lives of a process: no event is called a duplicate that was
// not accepted before, and none is accepted again while its id must be remembered.
#include <doctest/doctest.h>

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/task_group.h"
#include "intake.h"
#include "spool/committer.h"
#include "support/log_capture.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay {

namespace {

using listen::Admission;
using test::Landed;
using test::MemStore;
using test::StoreCall;

constexpr std::uint64_t kIdsMax = 600;
constexpr milliseconds kWindow{minutes{48}};

spool::Options tiny(Rng& rng) {
    spool::Options options;
    options.ids.window = kWindow;
    options.ids.ids_max = kIdsMax;
    options.ids.seal_ids = rng.between(8, 60);
    options.ids.filter_bits = rng.chance(300) ? 1 : 0;  // 1: every id is a maybe
    return options;
}

/// One life of the process, everything on one executor.
struct Process {
    Process(asio::io_context& io, test::SimClock& clock, MemStore& store, Rng& rng,
            const spool::Options& options)
        : settler(io.get_executor(), store, totals),
          ids({io.get_executor(), io.get_executor()}, clock, store, options, registry,
              {.changed = [this](spool::IdView view) { intake.note_ids(std::move(view)); },
               .room = [this] { committer.wake(); }}),
          intake(io.get_executor(), clock, rng, store.salt(),
                 {.parse = {}, .admit = {.table_ids = 20}}, queue, registry,
                 [this] { committer.wake(); }),
          committer(io.get_executor(), clock, queue, store, settler, ids, options, totals, registry,
                    {.settled = [this](Position position) { settled = position; },
                     .struck =
                         [this](const std::vector<Position>& positions) {
                             for (const auto position : positions) struck[position] = true;
                         },
                     .committed = [](LaneId) {},
                     .drop_oldest = [](LaneId, Seq) {},
                     .failed = [this](const Error&) { failed = true; }}),
          tasks(io.get_executor(), clock) {
        settler.adopt(true);
        REQUIRE(ids.recover([this](const IdHash& id) { intake.recover_id(id); }));
        tasks.spawn("ids", ids.run());
        tasks.spawn("commit", committer.run());
    }

    observe::Registry registry;
    observe::StorageTotals totals;
    spool::SegmentQueue queue{8_MiB};
    spool::Settler settler;
    spool::IdKeeper ids;
    Intake intake;
    spool::Committer committer;
    TaskGroup tasks;
    Position settled = 0;
    std::map<Position, bool> struck;
    bool failed = false;
};

struct World {
    /// The last time an id was accepted, or may have been.
    struct Known {
        TimePoint at;                // the id clock goes no faster than this one
        std::uint64_t accepted = 0;  // how many had been accepted before
        bool certain = false;        // durable
    };
    struct Waiting {
        std::string id;
        listen::Offered offered;
        Known known;
    };

    Xoshiro rng;
    asio::io_context io;
    test::SimClock clock;
    test::LogCapture log;
    spool::Options options{tiny(rng)};
    std::unique_ptr<MemStore> store = std::make_unique<MemStore>(7);
    std::unique_ptr<Process> process;
    std::map<std::string, Known> known;
    std::vector<Waiting> waiting;
    std::uint64_t accepted = 0;  // at most: what a crash left undecided counts
    std::uint64_t names = 0;
    std::uint64_t found_again = 0;
    std::uint64_t forgotten = 0;

    explicit World(std::uint64_t seed) : rng(seed) { start(); }
    ~World() { stop(); }

    void start() { process = std::make_unique<Process>(io, clock, *store, rng, options); }
    void stop() {
        process->committer.request_stop(clock.now());
        process->tasks.cancel(asio::cancellation_type::terminal);
        run(minutes{1});
        process.reset();
    }
    void run(milliseconds time) {
        clock.run_until(
            io, [] { return false; }, clock.now() + time);
        decide();
    }

    std::string pick() {
        if (names == 0 || rng.chance(600)) return std::to_string(++names);
        // Mostly young ones, some that are as old as can be.
        const auto back =
            rng.between(0, std::min<std::uint64_t>(names - 1, rng.chance(700) ? 40 : 2 * kIdsMax));
        return std::to_string(names - back);
    }

    void offer() {
        std::vector<std::string> ids;
        std::vector<std::string> texts;
        for (auto count = rng.between(1, 60); count > 0; --count) {
            ids.push_back(pick());
            texts.push_back(R"({"externalRequestId":")" + ids.back() +
                            R"(","provider":"p","model":"m","status":"success"})");
        }
        std::vector<listen::Message> burst;
        for (const auto& text : texts) burst.push_back({.bytes = text});
        // HTTP: only there it is told which maybe was struck out.
        const auto offered = process->intake.offer(burst, Origin{.kind = ListenerKind::http});
        for (std::size_t i = 0; i < ids.size(); ++i) {
            waiting.push_back({ids[i], offered[i], {clock.now(), accepted, false}});
        }
    }

    // What became of the events that storage is done with.
    void decide() {
        std::vector<Waiting> later;
        for (auto& one : waiting) {
            if (one.offered.position > process->settled) {
                later.push_back(std::move(one));
                continue;
            }
            const bool duplicate = one.offered.admission == Admission::duplicate ||
                                   process->struck.contains(one.offered.position);
            if (duplicate) {
                check_duplicate(one);
            } else {
                check_accepted(one);
            }
        }
        waiting = std::move(later);
    }
    void check_duplicate(const Waiting& one) {
        CAPTURE(one.id);
        REQUIRE(known.contains(one.id));  // else a good event was refused
        ++found_again;
    }
    void check_accepted(const Waiting& one) {
        CAPTURE(one.id);
        const auto before = known.find(one.id);
        if (before != known.end() && before->second.certain) {
            const auto age = one.known.at - before->second.at;
            const auto newer = accepted - before->second.accepted;
            const bool must_be_known = age < kWindow && newer < kIdsMax;
            CAPTURE(age.count());
            CAPTURE(newer);
            REQUIRE_FALSE(must_be_known);
            ++forgotten;
        }
        known[one.id] = {one.known.at, accepted++, true};
    }

    void restart(bool power_loss) {
        auto after = std::make_unique<MemStore>(*store);
        power_loss ? after->crash() : after->restart();
        // Nobody was told: these may be there or not.
        for (const auto& one : waiting) {
            auto& entry = known[one.id];
            if (!entry.certain) entry = one.known;
            ++accepted;
        }
        waiting.clear();
        stop();
        waiting.clear();
        store = std::move(after);
        start();
    }

    void harm() {
        const auto landed = rng.chance(500) ? Landed::yes : Landed::no;
        const auto times = static_cast<std::uint32_t>(rng.between(1, 6));
        switch (rng.between(0, 4)) {
            case 0: store->fail_next(StoreCall::make_run, Errc::spool_full, times); break;
            case 1: store->fail_next(StoreCall::adopt_run, Errc::spool_reopen, 1, landed); break;
            case 2: store->fail_next(StoreCall::drop_runs, Errc::spool_io, times); break;
            case 3: store->fail_next(StoreCall::commit, Errc::spool_reopen, 1, landed); break;
            default: store->fail_next(StoreCall::commit, Errc::spool_full, times); break;
        }
    }

    void act() {
        const auto roll = rng.between(0, 99);
        if (roll < 60) {
            offer();
            run(milliseconds{static_cast<std::int64_t>(rng.between(0, 500))});
        } else if (roll < 88) {
            run(milliseconds{static_cast<std::int64_t>(rng.between(0, 240'000))});
        } else if (roll < 93) {
            harm();
        } else if (roll < 97) {
            restart(rng.chance(500));
        } else {
            clock.jump_wall(rng.between(milliseconds{0}, milliseconds{hours{48}}) -
                            milliseconds{hours{24}});
        }
        if (process->failed) restart(false);  // as its supervisor does
        const observe::Ledger ledger{
            process->queue.snapshot().totals, process->totals,
            process->queue.snapshot().events + process->committer.in_hand(),
            process->settler.spooled()};
        REQUIRE(ledger.imbalance() == 0);
        REQUIRE(process->ids.ids() <= 2 * kIdsMax);
    }
};

}  // namespace

TEST_CASE("intake/dedupe: no good event is refused and no id within the limits is forgotten") {
    std::uint64_t found_again = 0;
    std::uint64_t forgotten = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        World world(seed);
        for (int action = 0; action < 150; ++action) world.act();
        found_again += world.found_again;
        forgotten += world.forgotten;
    }
    CHECK(found_again > 10'000);
    CHECK(forgotten > 100);  // else the limits were never reached
}

}  // namespace opsrelay
