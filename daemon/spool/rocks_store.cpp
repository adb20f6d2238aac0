#include "spool/rocks_store.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "core/assert.h"
#include "core/log.h"
#include "spool/disk_budget.h"
#include "spool/disk_plan.h"
#include "spool/disk_usage.h"
#include "spool/id_entry.h"
#include "spool/quarantine.h"
#include "spool/reserve_file.h"
#include "spool/rocks_dead.h"
#include "spool/rocks_deferred.h"
#include "spool/rocks_files.h"
#include "spool/rocks_ids.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_recovery.h"
#include "spool/rocks_scan.h"
#include "spool/rocks_segment_reader.h"
#include "spool/rocks_state.h"
#include "spool/rocks_watch.h"
#include "spool/rocks_write.h"

namespace opsrelay::spool {
namespace {

// Files of settled segments are given back after this much.
constexpr std::uint64_t kSettledRecordsPerDrop = 100'000;
constexpr Bytes kReadBytesPerDrop{64U << 20U};

template <typename Key>
rocksdb::Slice slice(const Key& key) {
    return {key.data(), key.size()};
}

class RocksStore final : public Store {
public:
    RocksStore(Options options, RocksSetup setup)
        : options_(std::move(options)),
          setup_(std::move(setup)),
          budget_(options_),
          reserve_(options_.dir),
          ids_(options_, setup_.env) {}
    RocksStore(const RocksStore&) = delete;
    RocksStore& operator=(const RocksStore&) = delete;
    ~RocksStore() override { std::ignore = let_go(); }

    [[nodiscard]] Result<void> open() { return take(open_spool); }
    /// Once it is open, so that nobody else uses the directory.
    [[nodiscard]] Result<void> prepare() const { return ids_.prepare(); }

    [[nodiscard]] std::uint64_t salt() const override { return book_.salt; }
    [[nodiscard]] std::vector<LaneState> lanes() const override { return lane_states(book_); }
    [[nodiscard]] Result<LaneId> make_lane(std::string_view name) override {
        return handle_ ? spool::make_lane(*handle_, *writer_, book_, name) : closed();
    }
    [[nodiscard]] Result<void> set_paused(LaneId id, bool paused) override {
        return handle_ ? spool::set_paused(*handle_, *writer_, id, lane(id), paused) : closed();
    }
    void set_limits(const Options& options) override;
    [[nodiscard]] Result<void> replay_ids(
        const std::function<void(const IdHash&, std::int64_t)>& sink) override;
    [[nodiscard]] std::uint64_t id_log_begin() const override { return book_.sealed; }
    [[nodiscard]] std::uint64_t id_log_end() const override { return book_.next_entry; }
    [[nodiscard]] std::vector<IdRun> id_runs() const override { return ids_.runs(); }
    [[nodiscard]] std::uint64_t damaged_id_pages() const override { return ids_.damaged_pages(); }
    [[nodiscard]] std::vector<bool> find_ids(std::span<const IdHash> ids) override;
    [[nodiscard]] RunJob seal_job(const SealSpec& spec,
                                  std::shared_ptr<std::vector<IdHash>> ids) override {
        return ids_.seal_job(spec, std::move(ids));
    }
    [[nodiscard]] RunJob merge_job(RunName name, std::span<const RunName> inputs,
                                   unsigned filter_bits) override;
    [[nodiscard]] Result<void> adopt_run(const NewRun& made) override;
    [[nodiscard]] Result<void> drop_runs(std::span<const RunName> names) override {
        return handle_ ? ids_.drop(*handle_, names) : closed();
    }
    [[nodiscard]] Result<void> commit(std::span<const Segment> segments,
                                      std::span<const DeadLetter> rejected) override;
    [[nodiscard]] Result<RecordBatch> read(LaneId lane, Seq from) override;
    [[nodiscard]] Result<void> ack(const Ack& ack) override;
    [[nodiscard]] Result<std::optional<DeferredRecord>> read_deferred(LaneId id, Seq seq) override {
        return handle_ ? spool::read_deferred(*handle_, id, seq) : closed();
    }
    [[nodiscard]] DeferredLimits deferred_limits() const override { return limits_of(options_); }
    [[nodiscard]] Result<std::uint64_t> replay(LaneId lane,
                                               std::span<const Revival> letters) override;
    [[nodiscard]] Result<DeadPage> read_dead(const DeadQuery& query) override {
        if (!handle_) return closed();
        return read_dead_page(*handle_, query);
    }
    [[nodiscard]] Result<std::uint64_t> purge_dead(std::span<const DeadKey> letters) override;
    [[nodiscard]] DeadEnds dead_ends() const override { return dead_ends_of(book_); }
    [[nodiscard]] DeadUsage dead_usage() const override { return book_.dead; }
    [[nodiscard]] Result<void> sync() override;
    [[nodiscard]] Result<void> reopen() override;
    [[nodiscard]] StoreStats stats() override;
    [[nodiscard]] Bytes lane_bytes(LaneId id) override {
        return handle_ ? family_bytes(*handle_, lane(id).family) : Bytes{};
    }
    [[nodiscard]] Result<void> hold_reserve(Bytes wanted) override { return reserve_.hold(wanted); }
    void close() override;

private:
    using Batch = rocksdb::WriteBatch;
    using OpenFunction = decltype(&open_spool);
    [[nodiscard]] Result<void> take(OpenFunction open_with);
    [[nodiscard]] rocksdb::DB& db() const { return handle_->db(); }
    [[nodiscard]] LaneBook& lane(LaneId id);
    [[nodiscard]] Error closed() const;
    [[nodiscard]] Result<void> write(Batch& batch, bool durable, std::string_view what);
    [[nodiscard]] bool let_go();
    void put_segment(Batch& batch, LaneId id, const Segment& segment, Seq first);
    [[nodiscard]] Result<void> undo_replays();
    void heed_damage();
    void forget_sealed(LaneBook& book) const;
    void note_written(LaneBook& book, std::uint64_t count);
    void trim_id_log();

    Options options_;
    const RocksSetup setup_;
    DiskBudget budget_;
    const ReserveFile reserve_;
    std::shared_ptr<Watch> watch_;
    std::optional<RocksWriter> writer_;
    std::unique_ptr<RocksHandle> handle_;
    SpoolBook book_;
    RocksIds ids_;
    // Their memory serves from commit to commit.
    Batch commit_batch_;
    Bytes committed_;
    std::string encoded_;
    bool settled_since_relief_ = false;
    bool compactions_stopped_ = false;  // a table is damaged
};

Result<void> RocksStore::take(OpenFunction open_with) {
    watch_ = std::make_shared<Watch>();
    writer_.emplace(watch_, options_);
    compactions_stopped_ = false;
    auto spool = open_with(options_, setup_, make_listener(watch_));
    if (!spool) return spool.error();
    handle_ = std::move(spool->handle);
    book_ = std::move(spool->book);
    auto loaded = ids_.load(*handle_);
    if (!loaded) handle_.reset();
    if (!loaded) return loaded;
    book_.sealed = std::max(book_.sealed, ids_.log_end());
    book_.next_entry = std::max(book_.next_entry, book_.sealed);
    settled_since_relief_ = true;  // what an earlier process settled may still take space
    return {};
}

LaneBook& RocksStore::lane(LaneId id) {
    const auto found = book_.lanes.find(id);
    OPSRELAY_ASSERT(found != book_.lanes.end());
    return found->second;
}

Error RocksStore::closed() const {
    return {Errc::spool_reopen, fmt::format("spool {}: not open", options_.dir)};
}

void RocksStore::set_limits(const Options& options) {
    take_limits(options_, options);
    budget_ = DiskBudget(options_);
    const auto limits = within(setup_.dead, plan_disk(options_));
    book_.dead.bytes_max = limits.upstream_bytes;
    book_.admission.set_limits(limits);
}

Result<void> RocksStore::write(Batch& batch, bool durable, std::string_view what) {
    return writer_->write(*handle_, batch, durable, what);
}

bool RocksStore::let_go() { return !handle_ || writer_->close(std::exchange(handle_, nullptr)); }

Result<void> RocksStore::replay_ids(const std::function<void(const IdHash&, std::int64_t)>& sink) {
    if (!handle_) return closed();
    const auto damaged =
        visit_entries(db(), *handle_->family(kIdLogFamily), book_.sealed, book_.next_entry,
                      [&sink](std::uint64_t, std::string_view value) { visit_ids(value, sink); });
    if (!damaged) return damaged.error();
    if (*damaged) {
        log::error("spool",
                   "part of the id log cannot be read; repeats of its events are accepted");
    }
    return {};
}

void RocksStore::put_segment(Batch& batch, LaneId id, const Segment& segment, Seq first) {
    batch.Put(lane(id).family, slice(seq_key(first)), encode_segment(segment, first, encoded_));
    batch.Put(end_key(id), encode_u64(first + segment.count));
}

Result<void> RocksStore::undo_replays() {
    Batch batch;
    const auto usage = undo_replays_in(*handle_, batch, book_);
    if (!usage) return usage.error();
    if (batch.Count() == 0) return {};
    if (auto done = write(batch, true, "undo a failed replay"); !done) return done;
    book_.dead = *usage;
    for (auto& [id, book] : book_.lanes) {
        book.replay_keys.clear();
        book.replay_letters.clear();
    }
    return {};
}

Result<void> RocksStore::commit(std::span<const Segment> segments,
                                std::span<const DeadLetter> rejected) {
    if (!handle_) return closed();
    heed_damage();
    if (auto undone = undo_replays(); !undone) return undone;
    auto& batch = commit_batch_;
    batch.Clear();
    std::set<LaneId> written;
    auto entry = book_.next_entry;
    for (const auto& segment : segments) {
        OPSRELAY_ASSERT(segment.ids.size() == segment.count);
        const bool only_one = written.insert(segment.lane).second;
        OPSRELAY_ASSERT(only_one);
        put_segment(batch, segment.lane, segment, lane(segment.lane).next_write);
        batch.Put(handle_->family(kIdLogFamily), slice(seq_key(entry++)), encode_ids(segment));
    }
    const auto change = put_rejected(*handle_, batch, book_.admission, rejected);
    if (batch.Count() == 0) return {};
    batch.Put(slice(kIdEndKey), encode_u64(entry));  // takes the ids of a commit given up away, too
    settle_doubts(batch, book_, written);

    const auto what = fmt::format("commit {} segments", segments.size());
    if (auto done = write(batch, true, what); !done) {
        for (const auto id : written) lane(id).commit_in_doubt = true;
        return done.error();
    }
    for (auto& [id, book] : book_.lanes) book.commit_in_doubt = false;
    for (const auto& segment : segments) {
        ++book_.next_entry;
        note_written(lane(segment.lane), segment.count);
    }
    book_.admission.replace(change.fresh, change.evicted);
    committed_ += Bytes{batch.GetDataSize()};
    return {};
}

void RocksStore::heed_damage() {
    if (watch_->take_damage()) compactions_stopped_ = stop_compactions(*handle_);
}

void RocksStore::forget_sealed(LaneBook& book) const {
    if (book.seals_seen == watch_->seals()) return;
    book.seals_seen = watch_->seals();
    book.fresh.clear();
}

void RocksStore::note_written(LaneBook& book, std::uint64_t count) {
    const auto first = book.next_write;
    book.next_write += count;
    if (book.seals_seen == watch_->seals()) {
        book.fresh.push_back({first, book.next_write});
    } else {
        forget_sealed(book);  // sealed before or after the put: a needless tombstone is worse
    }
}

Result<RecordBatch> RocksStore::read(LaneId id, Seq from) {
    if (!handle_) return closed();
    auto& book = lane(id);
    from = std::max(from, book.cursor.next);
    RecordBatch batch;
    batch.lane = id;
    batch.first_seq = book.next_write;
    if (from >= book.next_write) return batch;

    SegmentReader reader(db(), *book.family, book.cursor.segment, book.next_write);
    auto found = reader.find(from);
    if (!found) return found.error();
    if (auto& segment = *found) {
        book.read_bytes += Bytes{segment->payload.size()};
        if (book.read.empty() || book.read.back().end <= segment->first_seq) {
            book.read.push_back({segment->first_seq, segment->end_seq()});
        }
        batch = to_batch(std::move(*segment), id, std::max(from, segment->first_seq));
    }
    batch.lost = batch.first_seq - from;
    if (batch.lost > 0) {
        log::error("spool", "records cannot be read and are given up",
                   {{"lane", static_cast<std::uint16_t>(id)},
                    {"first_seq", from},
                    {"records", batch.lost},
                    {"cause", reader.damage().empty() ? "missing" : reader.damage()}});
    }
    return batch;
}

Result<void> RocksStore::ack(const Ack& ack) {
    if (!handle_) return closed();
    auto& book = lane(ack.lane);
    OPSRELAY_ASSERT(ack.next <= book.next_write);
    OPSRELAY_ASSERT(!ack.memo || ack.memo->size() <= kMemoBytesMax);
    const auto next = std::max(ack.next, book.cursor.next);
    std::vector<Seq> ahead(std::upper_bound(ack.ahead.begin(), ack.ahead.end(), next - 1),
                           ack.ahead.end());
    const bool moves = next > book.cursor.next;
    const bool defers = !ack.deferred.empty() || !ack.deferred_ended.empty();
    const bool says_more = moves || defers || ack.memo.has_value() || !ack.dead.empty();
    if (!says_more && ahead == book.cursor.ahead) return {};

    Batch batch;
    const auto usage = put_dead(*handle_, batch, book_.dead, letters_of(ack));
    if (!usage) return usage.error();
    put_deferred(*handle_, batch, book, ack);
    if (ack.memo) batch.Put(memo_key(ack.lane), slice(*ack.memo));
    Cursor cursor{book.cursor.segment, next, std::move(ahead)};
    forget_sealed(book);
    std::size_t deleted = 0;
    if (moves) {
        cursor.segment = segment_at(*handle_, book, next);
        for (; deleted < book.fresh.size() && book.fresh[deleted].end <= next; ++deleted) {
            batch.Delete(book.family, slice(seq_key(book.fresh[deleted].first)));
        }
    }
    // In another family than the segments: among them it would widen the key range of every file
    // and turn moves into rewrites.
    batch.Put(ack_key(ack.lane), encode_cursor(cursor));
    if (auto done = write(batch, false, fmt::format("ack up to {}", next)); !done) {
        return done.error();
    }
    book_.dead = *usage;
    note_deferred(book, ack);
    if (ack.memo) book.memo = *ack.memo;
    book.settled_records += cursor.next - book.cursor.next;
    if (cursor.segment != book.cursor.segment) settled_since_relief_ = true;
    book.cursor = std::move(cursor);
    book.fresh.erase(book.fresh.begin(), book.fresh.begin() + static_cast<std::ptrdiff_t>(deleted));
    const auto read_limit = std::min(kReadBytesPerDrop, Bytes{options_.bytes_max.count / 16});
    if (book.settled_records < kSettledRecordsPerDrop && book.read_bytes < read_limit) return {};
    if (auto synced = sync(); !synced) {
        // The ack itself is written; the next commit meets the same error and reports it.
        log::warn("spool", "space of settled records is not given back yet",
                  {{"cause", synced.error().context}});
    }
    return {};
}

Result<std::uint64_t> RocksStore::replay(LaneId id, std::span<const Revival> letters) {
    if (!handle_) return closed();
    auto& book = lane(id);
    if (book.commit_in_doubt) {
        return Error{Errc::spool_busy, "replay: a failed commit must be retried first"};
    }
    if (auto undone = undo_replays(); !undone) return undone.error();
    Batch batch;
    auto taken = take_dead(*handle_, batch, book_.dead, id, letters);
    if (!taken) return taken.error();
    auto first = book.next_write;
    std::vector<Seq> keys;
    for (const auto& segment : taken->segments) {
        keys.push_back(first);
        put_segment(batch, id, segment, first);
        first += segment.count;
    }
    const auto count = first - book.next_write;
    if (count == 0) return count;
    if (auto done = write(batch, true, fmt::format("replay {} dead letters", count)); !done) {
        book.replay_keys = std::move(keys);
        book.replay_letters = std::move(taken->letters);
        return done.error();
    }
    book.next_write = first;
    forget_sealed(book);
    forget_dead(book_, *taken);
    return count;
}

Result<std::uint64_t> RocksStore::purge_dead(std::span<const DeadKey> letters) {
    if (!handle_) return closed();
    if (auto undone = undo_replays(); !undone) return undone.error();
    Batch batch;
    const auto taken = drop_dead(*handle_, batch, book_.dead, letters);
    if (!taken) return taken.error();
    if (batch.Count() > 0) {
        const auto what = fmt::format("purge {} dead letters", taken->letters.size());
        if (auto done = write(batch, true, what); !done) return done.error();
    }
    forget_dead(book_, *taken);
    return taken->letters.size();
}

Result<void> RocksStore::sync() {
    if (!handle_) return closed();
    // Before files go: so that a missing range can be told from damage.
    if (auto synced = writer_->sync(*handle_, "sync acks"); !synced) return synced;
    drop_settled(*handle_, book_, compactions_stopped_);
    if (settled_since_relief_ && budget_.tight(stats())) {
        settled_since_relief_ = !give_back_all(*handle_, book_);
    }
    return {};
}

// The moved mark is not synced: the run says the same.
void RocksStore::trim_id_log() {
    if (ids_.log_end() <= book_.sealed) return;
    book_.sealed = ids_.log_end();
    Batch batch;
    batch.Put(slice(kSealedKey), encode_u64(book_.sealed));
    auto status = rocksdb::Status::OK();
    if (const auto done = write(batch, false, "trim the id log"); done) {
        status = drop_files(*handle_, handle_->family(kIdLogFamily), book_.sealed);
    }
    if (!status.ok()) {
        log::warn("spool", "sealed ids stay in the log for now", {{"cause", status.ToString()}});
    }
}

std::vector<bool> RocksStore::find_ids(std::span<const IdHash> ids) {
    return handle_ ? ids_.find(*handle_, ids) : std::vector<bool>(ids.size());
}

RunJob RocksStore::merge_job(RunName name, std::span<const RunName> inputs, unsigned filter_bits) {
    if (handle_) return ids_.merge_job(*handle_, name, inputs, filter_bits);
    return [error = closed()]() -> Result<NewRun> { return error; };
}

Result<void> RocksStore::adopt_run(const NewRun& made) {
    if (!handle_) return closed();
    if (auto taken = ids_.ingest(*handle_, made); !taken) return taken;
    trim_id_log();
    return {};
}

// What is confirmed keeps its numbers. A commit that failed may be on disk beyond them: its retry
// writes the same keys. A replay that failed is undone.
Result<void> RocksStore::reopen() {
    if (!let_go()) {
        return Error{Errc::spool_reopen,
                     fmt::format("spool {}: no new log could be made, and only a restart helps",
                                 options_.dir)};
    }
    auto before = std::exchange(book_, SpoolBook{});
    if (auto opened = take(reopen_spool); !opened) {
        book_ = std::move(before);  // reopen() may be tried again
        return reopen_error(opened.error());
    }
    keep_confirmed(book_, std::move(before));
    if (auto undone = undo_replays(); !undone) {
        return Error{Errc::spool_reopen, std::move(undone.error().context)};
    }
    return {};
}

StoreStats RocksStore::stats() {
    if (handle_) heed_damage();
    StoreStats stats;
    measure(options_.dir, stats);
    stats.reserve = reserve_.held();
    stats.committed = committed_;
    auto kept = find_damage(options_);
    stats.damaged = std::move(kept.databases);
    stats.repaired = std::move(kept.repaired);
    stats.dead_letters = book_.dead.letters + book_.admission.size();
    return stats;
}

void RocksStore::close() {
    if (!handle_) return;
    // The next start has no log to replay.
    if (auto done = writer_->write_out(*handle_); !done) {
        log::warn("spool", "the spool was not written out; the next start replays its log",
                  {{"cause", done.error().context}});
    }
    std::ignore = let_go();
}

}  // namespace

Result<std::unique_ptr<Store>> open_rocks_store(const Options& options, const RocksSetup& setup) {
    auto store = std::make_unique<RocksStore>(options, setup);
    if (auto opened = store->open(); !opened) return start_error(opened.error());
    if (auto prepared = store->prepare(); !prepared) return prepared.error();
    return std::unique_ptr<Store>(std::move(store));
}

Result<std::unique_ptr<Store>> open_rocks_store(const Options& options) {
    return open_rocks_store(options, RocksSetup{});
}

}  // namespace opsrelay::spool
