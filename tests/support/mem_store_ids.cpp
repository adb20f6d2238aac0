// The ids of MemStore: their log and their runs.
#include <fmt/format.h>

#include <algorithm>

#include "core/assert.h"
#include "support/mem_store.h"

namespace opsrelay::test {

Result<void> MemStore::replay_ids(const std::function<void(const IdHash&, std::int64_t)>& sink) {
    for (const auto& [number, entry] : live_.id_log) {
        if (number >= live_.next_entry) break;
        for (const auto& id : entry.ids) sink(id, entry.unix_ms);
    }
    return {};
}

std::vector<spool::IdRun> MemStore::id_runs() const {
    std::vector<spool::IdRun> runs;
    for (const auto& [name, run] : live_.runs) runs.push_back(run.run);
    return runs;
}

std::vector<bool> MemStore::find_ids(std::span<const IdHash> ids) {
    std::vector<bool> found;
    for (const auto& id : ids) {
        found.push_back(std::any_of(live_.runs.begin(), live_.runs.end(), [&](const auto& entry) {
            return entry.second.ids->contains(id);
        }));
    }
    return found;
}

spool::RunJob MemStore::run_job(const spool::RunInfo& info, unsigned filter_bits,
                                std::function<std::set<IdHash>()> ids) {
    return [this, info, filter_bits, ids = std::move(ids)]() -> Result<spool::NewRun> {
        if (const auto failure = take_failure(StoreCall::make_run)) return injected(*failure);
        const auto held = std::make_shared<const std::set<IdHash>>(ids());
        const auto count = std::max<std::size_t>(1, held->size());
        auto filter = std::make_shared<admit::IdFilter>(count, filter_bits);
        for (const auto& id : *held) filter->insert(id);
        const auto file = fmt::format("{}-{}", info.name.generation, info.name.run);
        files_[file] = held;
        auto made = info;
        made.ids = held->size();
        made.pages = spool::pages_for(count);
        return spool::NewRun{{made, filter}, file, 0};
    };
}

spool::RunJob MemStore::seal_job(const spool::SealSpec& spec,
                                 std::shared_ptr<std::vector<IdHash>> ids) {
    const spool::RunInfo info{spec.name, 0, spec.oldest_ms, spec.newest_ms, 0, spec.log_end, {}};
    return run_job(info, spec.filter_bits,
                   [ids = std::move(ids)] { return std::set<IdHash>(ids->begin(), ids->end()); });
}

spool::RunJob MemStore::merge_job(spool::RunName name, std::span<const spool::RunName> inputs,
                                  unsigned filter_bits) {
    spool::RunInfo whole;
    whole.name = name;
    std::vector<RunIds> parts;
    for (const auto& input : inputs) {
        const auto found = live_.runs.find(input);
        if (found == live_.runs.end()) continue;
        const auto& info = found->second.run.info;
        whole.oldest_ms =
            parts.empty() ? info.oldest_ms : std::min(whole.oldest_ms, info.oldest_ms);
        whole.newest_ms = std::max(whole.newest_ms, info.newest_ms);
        whole.log_end = std::max(whole.log_end, info.log_end);
        whole.replaces.push_back(input);
        parts.push_back(found->second.ids);
    }
    return run_job(whole, filter_bits, [parts = std::move(parts)] {
        std::set<IdHash> all;
        for (const auto& part : parts) all.insert(part->begin(), part->end());
        return all;
    });
}

// Durable at once, with all that it replaces.
void MemStore::apply(const spool::NewRun& made, const RunIds& ids) {
    const auto& info = made.run.info;
    for (auto* state : {&live_, &durable_}) {
        if (info.ids > 0) state->runs[info.name] = {made.run, ids};
        for (const auto& name : info.replaces) state->runs.erase(name);
        state->sealed = std::max(state->sealed, info.log_end);
        state->id_log.erase(state->id_log.begin(), state->id_log.lower_bound(state->sealed));
    }
}

Result<void> MemStore::adopt_run(const spool::NewRun& made) {
    if (auto refused = refused_write()) return *refused;
    const auto failure = take_failure(StoreCall::adopt_run);
    const auto file = files_.extract(made.file);
    OPSRELAY_ASSERT(!file.empty());
    if (!failure || failure->landed == Landed::yes) apply(made, file.mapped());
    if (failure) return injected(*failure);
    return {};
}

Result<void> MemStore::drop_runs(std::span<const spool::RunName> names) {
    if (auto refused = refused_write()) return *refused;
    if (const auto failure = take_failure(StoreCall::drop_runs)) return injected(*failure);
    for (const auto& name : names) {
        for (auto* state : {&live_, &durable_}) state->runs.erase(name);
    }
    return {};
}

bool MemStore::damage_run(spool::RunName name) {
    for (auto* state : {&live_, &durable_}) {
        const auto found = state->runs.find(name);
        if (found == state->runs.end()) return false;
        found->second.ids = std::make_shared<const std::set<IdHash>>();
    }
    ++damaged_pages_;
    return true;
}

}  // namespace opsrelay::test
