#include "spool/rocks_offline.h"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "spool/disk_usage.h"
#include "spool/id_run.h"
#include "spool/keys.h"
#include "spool/offline.h"
#include "spool/quarantine.h"
#include "spool/rocks_deferred.h"
#include "spool/rocks_options.h"
#include "spool/rocks_scan.h"
#include "spool/rocks_segment_reader.h"
#include "spool/rocks_source.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTimeBytes = 8;  // in front of the ids of a log entry

std::uint64_t file_bytes(const fs::path& path) {
    std::error_code ec;
    const auto size = fs::file_size(path, ec);
    return ec ? 0 : size;
}

void sum_up_files(const Options& options, SpoolSummary& summary) {
    std::error_code ec;
    for (fs::directory_iterator it(database_dir(options), ec), end; !ec && it != end;
         it.increment(ec)) {
        const auto extension = it->path().extension();
        if (extension == ".sst") continue;  // by family, below
        summary.bytes[extension == ".log" ? "logs" : "other"] += file_bytes(it->path());
    }
    summary.bytes_total = directory_bytes(options.dir).count;
    const auto damage = find_damage(options);
    for (const auto& path : damage.databases) {
        summary.kept.push_back({.path = path, .bytes = directory_bytes(path).count});
    }
    for (const auto& path : damage.repaired) {
        summary.kept.push_back({path, directory_bytes(path).count, false, true});
    }
    const auto unsalvaged = unsalvaged_quarantines(options);
    for (const auto& path : damage.quarantines) {
        const bool open = std::find(unsalvaged.begin(), unsalvaged.end(), path) != unsalvaged.end();
        summary.kept.push_back({.path = path, .bytes = directory_bytes(path).count, .open = open});
    }
}

bool is_settled(const Cursor& cursor, Seq seq) {
    return seq < cursor.next || std::binary_search(cursor.ahead.begin(), cursor.ahead.end(), seq);
}

std::uint64_t count_ids(const ReadOnlySpool& spool) {
    std::uint64_t ids = 0;
    rocksdb::ColumnFamilyMetaData runs;
    auto* const family = spool.handle->family(kIdsFamily);
    spool.handle->db().GetColumnFamilyMetaData(family, &runs);
    for (const auto& level : runs.levels) {
        for (const auto& file : level.files) {
            const auto name = parse_run_key(file.smallestkey);
            if (!name) continue;
            const auto key = run_key(*name, kDescriptorPage);
            std::string value;
            const auto status = spool.handle->db().Get(make_read_options(), family,
                                                       {key.data(), key.size()}, &value);
            const auto info = status.ok() ? decode_descriptor(*name, value) : std::nullopt;
            if (info) ids += info->ids;
        }
    }
    const auto count = [&ids](std::uint64_t, std::string_view value) {
        ids += (value.size() - std::min(value.size(), kTimeBytes)) / sizeof(IdHash);
    };
    const auto read = visit_entries(spool.handle->db(), *spool.handle->family(kIdLogFamily),
                                    spool.book.sealed, spool.book.next_entry, count);
    static_cast<void>(read);  // `verify` tells what is damaged
    return ids;
}

std::string lane_name(const ReadOnlySpool& spool, LaneId lane) {
    std::string name;
    const auto status = spool.handle->db().Get(
        make_read_options(), spool.handle->db().DefaultColumnFamily(), lane_name_key(lane), &name);
    return status.ok() ? name : std::string{};
}

void sum_up_records(const ReadOnlySpool& spool, SpoolSummary& summary) {
    rocksdb::DB& db = spool.handle->db();
    std::vector<rocksdb::LiveFileMetaData> tables;
    db.GetLiveFilesMetaData(&tables);
    for (const auto& table : tables) {
        summary.bytes[fmt::format("tables/{}", table.column_family_name)] += table.size;
    }
    for (const auto& [id, book] : spool.book.lanes) {
        auto& lane = summary.lanes.emplace_back();
        lane.lane = id;
        lane.name = lane_name(spool, id);
        lane.deferred = book.deferred.size();
        lane.records = book.next_write - book.cursor.next - book.cursor.ahead.size();
        SegmentReader reader(db, *book.family, book.cursor.segment, book.next_write);
        const auto first = reader.find(book.cursor.next);
        if (first && *first) lane.oldest_unix_ms = (*first)->received_unix_ms;
        for (const auto& [seq, entry] : book.deferred) {
            if (is_settled(book.cursor, seq)) ++lane.records;
            const bool older = entry.received_unix_ms < lane.oldest_unix_ms;
            if (older || lane.oldest_unix_ms == 0) lane.oldest_unix_ms = entry.received_unix_ms;
        }
    }
    summary.dead_admission = spool.book.admission.size();
    summary.dead_upstream = spool.book.dead.letters;
    summary.ids = count_ids(spool);
}

bool export_deferred(const ReadOnlySpool& spool, LaneId id, const LaneBook& book,
                     const RecordSink& sink, ExportReport& report, Result<void>& failed) {
    const auto name = lane_name(spool, id);
    for (const auto& [seq, entry] : book.deferred) {
        if (!is_settled(book.cursor, seq)) continue;  // it is in the queue
        const auto record = read_deferred(*spool.handle, id, seq);
        if (!record) {
            failed = record.error();
            return false;
        }
        if (!*record) {
            ++report.lost;
            continue;
        }
        ++report.records;
        if (!sink({id, name, seq, entry.received_unix_ms, (*record)->payload})) return false;
    }
    return true;
}

bool export_lane(const ReadOnlySpool& spool, LaneId id, const LaneBook& book,
                 const RecordSink& sink, ExportReport& report, Result<void>& failed) {
    const auto name = lane_name(spool, id);
    SegmentReader reader(spool.handle->db(), *book.family, book.cursor.segment, book.next_write);
    const auto& ahead = book.cursor.ahead;
    for (Seq at = book.cursor.next; at < book.next_write;) {
        auto found = reader.find(at);
        if (!found) {
            failed = found.error();
            return false;
        }
        const Seq first = *found ? std::max(at, (*found)->first_seq) : book.next_write;
        report.lost += first - at;
        if (!*found) break;
        const Seq end = (*found)->end_seq();
        const auto received = (*found)->received_unix_ms;
        const auto batch = to_batch(std::move(**found), id, first);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            if (std::binary_search(ahead.begin(), ahead.end(), first + i)) continue;
            ++report.records;
            if (!sink({id, name, first + i, received, batch.record(i)})) return false;
        }
        at = end;
    }
    return true;
}

}  // namespace

Result<void> must_hold(const Options& options, std::string_view file) {
    std::error_code ec;
    if (fs::exists(fmt::format("{}/{}", options.dir, file), ec)) return {};
    if (ec == std::errc::permission_denied) {
        return errno_error(Errc::spool_unusable, fmt::format("spool {}", options.dir), ec.value(),
                           "run this as root or as the daemon's user");
    }
    return Error{Errc::spool_unusable,
                 fmt::format("spool {}: there is no spool; name its directory with --spool-dir",
                             options.dir)};
}

Result<std::optional<SpoolLock>> lock_for_reading(const Options& options) {
    // With a dot: only a directory has it.
    if (auto there = must_hold(options, "db/."); !there) return there.error();
    std::error_code ec;
    if (!fs::exists(database_dir(options) + "/LOCK", ec)) return std::optional<SpoolLock>{};
    auto lock = SpoolLock::take(options);
    if (lock) return std::optional<SpoolLock>(std::move(*lock));
    if (lock.error().code == Errc::spool_locked) {
        return Error{Errc::spool_locked,
                     fmt::format("spool {}: a daemon has it open; ask that one with `opsrelay "
                                 "status`, or stop it first",
                                 options.dir)};
    }
    return std::optional<SpoolLock>{};  // not ours to write: then no daemon of ours runs on it
}

Result<ReadOnlySpool> open_read_only(const Options& options) {
    auto db_options = make_db_options(options);
    db_options.create_if_missing = false;
    db_options.create_missing_column_families = false;
    db_options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
    const auto dir = database_dir(options);
    std::vector<std::string> names;
    auto status = rocksdb::DB::ListColumnFamilies(db_options, dir, &names);
    if (!status.ok()) return Error{Errc::spool_corrupt, status.ToString()};
    for (const auto wanted : {kIdLogFamily, kIdsFamily, kDeadFamily}) {
        if (std::find(names.begin(), names.end(), wanted) != names.end()) continue;
        return Error{Errc::spool_corrupt, fmt::format("there is no family {}", wanted)};
    }
    const auto cache = make_block_cache(options);
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const auto& name : names)
        families.emplace_back(name, make_family_options(name, options, cache));
    rocksdb::DB* db = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    status = rocksdb::DB::OpenForReadOnly(db_options, dir, families, &handles, &db);
    if (!status.ok()) return Error{Errc::spool_corrupt, status.ToString()};
    ReadOnlySpool spool{
        std::make_unique<RocksHandle>(std::unique_ptr<rocksdb::DB>(db), std::move(handles)), {}};
    RocksSetup setup;
    setup.lanes.clear();  // those that it has
    std::string salt;
    if (!db->Get(make_read_options(), rocksdb::Slice(kSaltKey), &salt).ok()) {
        return Error{Errc::spool_corrupt, "it was never begun, or its beginning cannot be read"};
    }
    auto book = load_book(*spool.handle, options, setup);
    if (!book) return book.error();
    spool.book = std::move(*book);
    return spool;
}

Result<SpoolSummary> summarize(const Options& options) {
    const auto lock = lock_for_reading(options);
    if (!lock) return lock.error();
    SpoolSummary summary;
    sum_up_files(options, summary);
    const auto spool = open_read_only(options);
    if (spool) {
        sum_up_records(*spool, summary);
    } else if (spool.error().code == Errc::spool_corrupt) {
        summary.trouble = spool.error().context;
    } else {
        return spool.error();
    }
    return summary;
}

Result<ExportReport> export_open(const ReadOnlySpool& spool, const RecordSink& sink) {
    ExportReport report;
    Result<void> failed;
    for (const auto& [id, book] : spool.book.lanes) {
        report.lanes.push_back({id, lane_name(spool, id)});
    }
    for (const auto& [id, book] : spool.book.lanes) {
        if (!export_deferred(spool, id, book, sink, report, failed)) break;
        if (!export_lane(spool, id, book, sink, report, failed)) break;
    }
    if (!failed) return failed.error();
    return report;
}

Result<ExportReport> export_records(const Options& options, const RecordSink& sink) {
    const auto lock = lock_for_reading(options);
    if (!lock) return lock.error();
    const auto spool = open_read_only(options);
    if (!spool) {
        if (spool.error().code != Errc::spool_corrupt) return spool.error();
        return export_files(database_dir(options), sink);
    }
    return export_open(*spool, sink);
}

Result<ExportReport> export_files(const std::string& dir, const RecordSink& sink) {
    const auto source = FileSource::open(dir);
    if (!source) return source.error();
    ExportReport report;
    for (const auto& [lane, name] : source->names()) report.lanes.push_back({lane, name});
    const auto name_of = [&source](LaneId lane) {
        const auto name = source->names().find(lane);
        return name == source->names().end() ? std::string_view{} : std::string_view(name->second);
    };
    bool go_on = true;
    source->visit_deferred([&](const StoredDeferred& stored) {
        const auto& record = stored.record;
        if (!go_on) return;
        ++report.records;
        go_on = sink({stored.lane, name_of(stored.lane), record.seq, record.received_unix_ms,
                      record.payload});
    });
    if (!go_on) return report;
    const auto visited = source->visit_segments([&](LaneId lane, const StoredSegment& segment) {
        const auto text = name_of(lane);
        for (Seq seq = segment.first_seq; seq < segment.end_seq(); ++seq) {
            if (source->is_settled(lane, seq)) continue;
            const auto i = seq - segment.first_seq;
            const auto event =
                std::string_view(segment.payload)
                    .substr(segment.offsets[i], segment.offsets[i + 1] - segment.offsets[i] - 1);
            ++report.records;
            go_on = sink({lane, text, seq, segment.received_unix_ms, event});
            if (!go_on) return false;
        }
        return true;
    });
    if (!visited) return visited.error();
    if (!go_on) return report;
    const auto damaged = source->count_damaged_files();
    if (!damaged) return damaged.error();
    report.lost = visited->missing + visited->no_lane;
    report.damaged_files = *damaged;
    return report;
}

}  // namespace opsrelay::spool
