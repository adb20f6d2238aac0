// The files of id runs, made without the database. Used by RocksIds only.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "spool/id_run.h"
#include "spool/store.h"

namespace rocksdb {
class Env;
}

namespace opsrelay::spool {

/// Writes one run. `ids` is sorted here; doubles are kept once. An existing file is overwritten.
/// The file is synced. Thread: maintenance. Errors: as classify().
[[nodiscard]] Result<NewRun> write_run_file(rocksdb::Env* env, const std::string& file,
                                            const SealSpec& spec, std::vector<IdHash>& ids);

/// A run that is read for a merge: its file stays as it is until the merge ends.
struct RunInput {
    RunInfo info;
    std::string file;
};
/// Merges runs into one, a page of each in memory at a time. What is damaged is left out and
/// counted. Thread: maintenance. Errors: as classify(), also when the disk cannot be read.
[[nodiscard]] Result<NewRun> merge_run_files(rocksdb::Env* env, const std::string& file,
                                             RunName name, std::span<const RunInput> inputs,
                                             unsigned filter_bits);

}  // namespace opsrelay::spool
