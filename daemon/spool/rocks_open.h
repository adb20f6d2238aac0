// Opens the database: directory, lock, recovery in two steps, quarantine of a damaged log. Used by
// RocksStore only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "spool/options.h"
#include "spool/rocks_setup.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class EventListener;
}  // namespace rocksdb

namespace opsrelay::spool {

/// An open database with all its families. Closing it needs nothing but destruction.
class RocksHandle {
public:
    RocksHandle(std::unique_ptr<rocksdb::DB> db,
                std::vector<rocksdb::ColumnFamilyHandle*> families);
    RocksHandle(const RocksHandle&) = delete;
    RocksHandle& operator=(const RocksHandle&) = delete;
    ~RocksHandle();

    [[nodiscard]] rocksdb::DB& db() const noexcept { return *db_; }
    /// nullptr: there is no such family.
    [[nodiscard]] rocksdb::ColumnFamilyHandle* family(std::string_view name) const noexcept;
    /// By name.
    [[nodiscard]] const std::map<std::string, rocksdb::ColumnFamilyHandle*, std::less<>>& families()
        const noexcept {
        return families_;
    }

private:
    std::unique_ptr<rocksdb::DB> db_;
    std::map<std::string, rocksdb::ColumnFamilyHandle*, std::less<>> families_;
};

/// Where the database and the copies of damaged logs lie within Options::dir.
[[nodiscard]] std::string database_dir(const Options& options);
[[nodiscard]] std::string quarantine_dir(const Options& options);

/// Makes the directory if need be and opens it, with every family it has and those of `setup`.
/// A log that is damaged before its end is linked into the quarantine, then what lies before the
/// damage is used. Errors: spool_locked, spool_unusable.
[[nodiscard]] Result<std::unique_ptr<RocksHandle>> open_rocks(
    const Options& options, const RocksSetup& setup,
    const std::shared_ptr<rocksdb::EventListener>& listener);

}  // namespace opsrelay::spool
