#include "upstream/row_table.h"

#include <functional>

namespace opsrelay::upstream {

namespace {

std::uint64_t hash_of(std::string_view text) { return std::hash<std::string_view>{}(text); }

}  // namespace

std::size_t RowTable::slot_of(std::string_view id, std::uint64_t hash) const {
    const auto mask = slots_.size() - 1;
    auto slot = static_cast<std::size_t>(hash) & mask;
    while (slots_[slot] != 0) {
        const auto row = slots_[slot] - 1;
        if (rows_[row].id_hash == hash && this->id(row) == id) return slot;
        slot = (slot + 1) & mask;
    }
    return slot;
}

RowTable::Inserted RowTable::insert(std::string_view id, std::string_view body, DataMode mode,
                                    bool replace) {
    const auto hash = hash_of(id);
    const auto body_hash = hash_of(body);
    auto slot = slot_of(id, hash);
    if (slots_[slot] != 0) {
        const auto number = slots_[slot] - 1;
        auto& row = rows_[number];
        if (row.body_hash == body_hash) return Inserted::same;
        if (!replace) return Inserted::different;
        row.body_hash = body_hash;
        modes_[number] = mode;
        if (!limits_.ids_only) {
            body_bytes_ += body.size() - bodies_[number].size();
            bodies_[number] = body;
        }
        return Inserted::different;
    }
    const auto more = id.size() + (limits_.ids_only ? 0 : body.size());
    if (rows_.size() >= limits_.rows_max || bytes().count + more > limits_.bytes_max.count) {
        return Inserted::full;
    }
    if ((rows_.size() + 1) * 2 > slots_.size()) {
        index_into(std::vector<std::uint32_t>(slots_.size() * 2));
        slot = slot_of(id, hash);
    }
    ids_.append(id);
    rows_.push_back({hash, body_hash, ids_.size()});
    modes_.push_back(mode);
    slots_[slot] = static_cast<std::uint32_t>(rows_.size());
    if (!limits_.ids_only) {
        bodies_.emplace_back(body);
        body_bytes_ += body.size();
    }
    return Inserted::added;
}

/// `slots` are empty and a power of two, at least twice the rows.
void RowTable::index_into(std::vector<std::uint32_t> slots) {
    const auto mask = slots.size() - 1;
    for (std::size_t row = 0; row < rows_.size(); ++row) {
        auto slot = static_cast<std::size_t>(rows_[row].id_hash) & mask;
        while (slots[slot] != 0) slot = (slot + 1) & mask;
        slots[slot] = static_cast<std::uint32_t>(row + 1);
    }
    slots_ = std::move(slots);
}

std::size_t RowTable::remove(DataMode mode) {
    std::vector<Row> rows;
    std::vector<DataMode> modes;
    std::vector<std::string> bodies;
    std::string ids;
    for (std::size_t row = 0; row < rows_.size(); ++row) {
        if (modes_[row] == mode) {
            if (!limits_.ids_only) body_bytes_ -= bodies_[row].size();
            continue;
        }
        ids.append(id(row));
        rows.push_back({rows_[row].id_hash, rows_[row].body_hash, ids.size()});
        modes.push_back(modes_[row]);
        if (!limits_.ids_only) bodies.push_back(std::move(bodies_[row]));
    }
    const auto removed = rows_.size() - rows.size();
    rows_ = std::move(rows);
    modes_ = std::move(modes);
    bodies_ = std::move(bodies);
    ids_ = std::move(ids);
    index_into(std::vector<std::uint32_t>(slots_.size()));
    ++generation_;
    return removed;
}

bool RowTable::contains(std::string_view id) const { return slots_[slot_of(id, hash_of(id))] != 0; }

std::string_view RowTable::id(std::size_t row) const {
    const auto begin = row == 0 ? 0 : rows_[row - 1].id_end;
    return std::string_view(ids_).substr(begin, rows_[row].id_end - begin);
}

std::string_view RowTable::body(std::size_t row) const {
    return limits_.ids_only ? std::string_view{} : std::string_view(bodies_[row]);
}

void RowTable::clear() {
    rows_.clear();
    modes_.clear();
    slots_.assign(1024, 0);
    ids_.clear();
    bodies_.clear();
    body_bytes_ = 0;
    ++generation_;
}

}  // namespace opsrelay::upstream
