// Opens the database: directory, lock, recovery in steps, each of which gives up as little as it
// can. Used by RocksStore only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "spool/options.h"
#include "spool/quarantine.h"
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
    /// Takes a family that was made since.
    void add(rocksdb::ColumnFamilyHandle* family);

private:
    std::unique_ptr<rocksdb::DB> db_;
    std::map<std::string, rocksdb::ColumnFamilyHandle*, std::less<>> families_;
};

/// Makes the directory if need be and opens it, with every family it has and those of `setup`.
/// Tables that are missing or damaged are replaced by empty ones; of a log that is damaged before
/// its end what lies before the damage is used. Both are kept in the quarantine, from which the
/// rest can be taken back (rocks_salvage.h). Errors: spool_locked, spool_unusable; spool_corrupt:
/// it cannot be opened, whatever is given up.
[[nodiscard]] Result<std::unique_ptr<RocksHandle>> open_rocks(
    const Options& options, const RocksSetup& setup,
    const std::shared_ptr<rocksdb::EventListener>& listener);

}  // namespace opsrelay::spool
