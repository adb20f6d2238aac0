// Random work on RocksStore while one kind of call fails; checks what is found against an oracle.
#pragma once

#include <rocksdb/env.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "spool/crash_disk.h"
#include "spool/fault_disk.h"
#include "spool/options.h"
#include "spool/rocks_setup.h"
#include "spool/store.h"
#include "spool/store_oracle.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {

/// What a fault may come to; the later the worse.
enum class Came : std::uint8_t { unnoticed, kept, reopened, restarted };

/// The outcomes of a lane as the settler keeps them in memory.
struct Outcomes {
    Seq next = 1;
    std::set<Seq> ahead;
    std::vector<DeadLetter> dead;      // not written
    std::vector<DeadLetter> unsynced;  // written, not synced
    std::map<Seq, DeferredRecord> deferred;
    std::map<Seq, DeferredRecord> deferred_unsynced;
};

struct Batch {
    std::vector<Segment> segments;
    std::vector<DeadLetter> rejected;
};

/// A store on a disk with a fault, worked on as the daemon does: what is refused is kept, what
/// fails is opened again in place, and when that fails the process ends and another one starts.
class FaultWorld {
public:
    explicit FaultWorld(std::uint64_t seed);
    FaultWorld(const FaultWorld&) = delete;
    FaultWorld& operator=(const FaultWorld&) = delete;

    /// Works for a while, meets the fault, works on; ends with a new process.
    void run(const test::DiskFault& fault);
    [[nodiscard]] Came came() const noexcept { return came_; }
    [[nodiscard]] std::uint64_t hits() const noexcept { return hits_; }

private:
    void step();
    void new_batch();
    void commit();
    void ack(LaneId lane);
    void replay(LaneId lane);
    void purge();
    void sync();
    void seal();
    void merge();
    void read(LaneId lane);
    [[nodiscard]] test::StoreImage look();
    void check_view();
    template <typename T>
    bool settled(const Result<T>& result);
    void note_synced();
    void heal();
    void recover();
    void end_process(bool power_loss);
    void start(bool power_loss);
    void adopt();

    test::LogCapture logs_;
    Xoshiro rng_;
    test::TempDir dir_;
    std::shared_ptr<test::CrashDisk> crash_;
    std::shared_ptr<test::FaultDisk> disk_;
    std::shared_ptr<rocksdb::Env> env_;
    Options options_;
    RocksSetup setup_;
    std::unique_ptr<Store> store_;
    std::optional<test::StoreOracle> oracle_;
    std::map<LaneId, Outcomes> outcomes_;
    std::optional<Batch> held_;  // refused, to be tried again
    std::map<DeadKey, std::string> texts_;
    Came came_ = Came::unnoticed;
    std::uint64_t hits_ = 0;
    int refusals_ = 0;
    int reopens_ = 0;
    int serial_ = 0;
    std::uint32_t runs_ = 0;
};

}  // namespace opsrelay::spool
