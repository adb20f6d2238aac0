#include "spool/deferred_book.h"

#include <algorithm>
#include <iterator>

#include "spool/deferred.h"

namespace opsrelay::spool {

void DeferredBook::adopt(const std::vector<DeferredEntry>& stored) {
    for (const auto& entry : stored) {
        entries_.emplace(entry.seq, entry);
        due_.emplace(entry.due_unix_ms, entry.seq);
        bytes_ += entry.bytes;
    }
}

DeferredView DeferredBook::view() const {
    if (due_.empty()) return {};
    return {entries_.size(), due_.begin()->first};
}

std::optional<Seq> DeferredBook::due(std::int64_t now_unix_ms) const {
    if (due_.empty()) return std::nullopt;
    for (const auto* const one : {&*due_.begin(), &*due_.rbegin()}) {
        if (is_due(one->first, now_unix_ms)) return one->second;
    }
    return std::nullopt;
}

void DeferredBook::erase(std::map<Seq, DeferredEntry>::iterator at) {
    due_.erase({at->second.due_unix_ms, at->first});
    bytes_ = bytes_ - at->second.bytes;
    hastened_.erase(at->first);
    if (trying_ == at->first) trying_.reset();
    entries_.erase(at);
}

void DeferredBook::put(DeferredRecord record) {
    if (const auto known = entries_.find(record.seq); known != entries_.end()) erase(known);
    adopt({{record.seq, record.due_unix_ms, record.received_unix_ms, deferred_bytes(record)}});
    changes_[record.seq] = std::move(record);
}

bool DeferredBook::end(Seq seq) {
    const auto known = entries_.find(seq);
    if (known == entries_.end()) return false;
    erase(known);
    changes_[seq] = std::nullopt;
    return true;
}

std::uint64_t DeferredBook::end_if(const std::function<bool(const DeferredEntry&)>& gone) {
    std::vector<Seq> ended;
    for (const auto& [seq, entry] : entries_) {
        if (seq != trying_ && gone(entry)) ended.push_back(seq);
    }
    for (const auto seq : ended) end(seq);
    return ended.size();
}

void DeferredBook::hasten(std::int64_t now_unix_ms) {
    due_.clear();
    for (auto& [seq, entry] : entries_) {
        entry.due_unix_ms = std::min(entry.due_unix_ms, now_unix_ms);
        due_.emplace(entry.due_unix_ms, seq);
        hastened_.insert(hastened_.end(), seq);
    }
}

DeferredBook::Below DeferredBook::below(Seq end) const {
    const auto count = [end](const auto& sorted) {
        return static_cast<std::uint64_t>(std::distance(sorted.begin(), sorted.lower_bound(end)));
    };
    const auto records = count(entries_);
    return {records, records - count(hastened_)};
}

std::vector<DeferredRecord> DeferredBook::puts() const {
    std::vector<DeferredRecord> all;
    for (const auto& [seq, record] : changes_) {
        if (record) all.push_back(*record);
    }
    return all;
}

std::vector<Seq> DeferredBook::ends() const {
    std::vector<Seq> all;
    for (const auto& [seq, record] : changes_) {
        if (!record) all.push_back(seq);
    }
    return all;
}

const DeferredRecord* DeferredBook::unwritten(Seq seq) const {
    const auto found = changes_.find(seq);
    return found == changes_.end() || !found->second ? nullptr : &*found->second;
}

void DeferredBook::note_written() {
    for (auto& [seq, record] : changes_) unsynced_[seq] = std::move(record);
    changes_.clear();
}

void DeferredBook::note_reopened() {
    changes_.merge(unsynced_);  // those that are there are newer
    unsynced_.clear();
}

}  // namespace opsrelay::spool
