#include "spool/rocks_options.h"

#include <rocksdb/cache.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "spool/disk_plan.h"
#include "spool/keys.h"
#include "spool/options.h"
#include "spool/rocks_logger.h"

namespace opsrelay::spool {
namespace {

constexpr std::size_t kArenaBlockBytes = 256U << 10U;
constexpr std::size_t kBlockBytes =
    1024;  // every segment or page of ids becomes a block of its own

bool is_small(std::string_view family) noexcept {
    return family == kDeadFamily || family == kDeferredFamily || family == kDefaultFamily ||
           family == kIdsFamily;
}

}  // namespace

Bytes write_buffer_bytes(std::string_view family, const Options& options) noexcept {
    const auto all = options.write_buffers.count;
    const bool small = is_small(family) || family == kIdLogFamily;
    // One of segments fills while another becomes a file; the rest is the other families'.
    return Bytes{small ? all / 8 : all / 2};
}

std::shared_ptr<rocksdb::Cache> make_block_cache(const Options& options) {
    // Not cut into shards: an index of ids takes a quarter of one, and two in the same would push
    // each other out with every lookup. Few threads ask it.
    constexpr int kShardBits = 0;
    return rocksdb::NewLRUCache(options.block_cache.count, kShardBits);
}

rocksdb::DBOptions make_db_options(const Options& options) {
    rocksdb::DBOptions db;
    db.create_if_missing = true;
    db.create_missing_column_families = true;
    // Without it a family that is seldom written keeps old logs alive, and damage in any of them
    // makes recovery refuse the files that were written since.
    db.atomic_flush = true;
    db.max_background_jobs = 2;
    db.max_open_files = 64;
    db.max_file_opening_threads = 1;
    db.skip_stats_update_on_db_open = true;
    db.stats_dump_period_sec = 0;
    db.stats_persist_period_sec = 0;
    db.info_log_level = rocksdb::WARN_LEVEL;
    db.info_log = make_logger();
    db.max_total_wal_size = kLogBytesMax.count;
    // It grows with every table made or deleted until it is written anew, by default at a gibibyte:
    // more than a whole spool. Anew it has some 250 bytes a table, and a spool of this size has a
    // table for each kTableFileBytes, so it is written anew rarely.
    db.max_manifest_file_size = plan_disk(options).manifest.count;
    db.manifest_preallocation_size =
        std::min<std::size_t>(db.manifest_preallocation_size, db.max_manifest_file_size / 4);
    db.db_write_buffer_size = options.write_buffers.count;
    db.recycle_log_file_num = 0;
    db.bytes_per_sync = 1U << 20U;
    db.wal_bytes_per_sync = 0;
    db.avoid_unnecessary_blocking_io = true;
    db.avoid_flush_during_shutdown = false;
    db.max_bgerror_resume_count = std::numeric_limits<int>::max();
    db.bgerror_resume_retry_interval = 500'000;  // us
    db.paranoid_checks = true;
    db.verify_sst_unique_id_in_manifest = false;  // a lost table is replaced by an empty one
    return db;
}

rocksdb::ColumnFamilyOptions make_family_options(std::string_view family, const Options& options,
                                                 const std::shared_ptr<rocksdb::Cache>& cache) {
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = cache;
    table.no_block_cache = cache == nullptr;
    table.cache_index_and_filter_blocks = true;
    table.format_version = 5;
    table.checksum = rocksdb::kXXH3;
    // The index knows each block's first key, so a lookup does not touch the first block of a later
    // file: in level 0 damage there would otherwise hide every segment before it.
    table.index_type = rocksdb::BlockBasedTableOptions::kBinarySearchWithFirstKey;
    if (family == kIdsFamily) {
        // Runs never overlap; in two levels only the index of the pages asked for is in memory.
        table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
        table.metadata_block_size = 4096;
    }
    table.block_size = kBlockBytes;
    table.filter_policy = nullptr;

    // The packaged library asserts: a write buffer must be at least eight arena blocks.
    rocksdb::ColumnFamilyOptions made;
    made.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    made.max_write_buffer_number = 3;
    made.compression = rocksdb::kNoCompression;
    made.bottommost_compression = rocksdb::kDisableCompressionOption;
    made.target_file_size_base = kTableFileBytes.count;
    made.level_compaction_dynamic_level_bytes = true;  // from level 0 down is a move
    made.write_buffer_size = write_buffer_bytes(family, options).count;
    made.arena_block_size = std::min(made.write_buffer_size / 16, kArenaBlockBytes);
    if (family == kIdsFamily) made.disable_auto_compactions = true;  // only ever ingested
    if (family == kDeadFamily) made.compression = rocksdb::kLZ4Compression;
    return made;
}

rocksdb::Options make_file_options(std::string_view family) {
    const Options any;  // sizes of memory tables and cache, which files do not have
    return {make_db_options(any), make_family_options(family, any, nullptr)};
}

rocksdb::ReadOptions make_read_options() {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    options.verify_checksums = true;
    return options;
}

}  // namespace opsrelay::spool
