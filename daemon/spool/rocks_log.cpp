#include "spool/rocks_log.h"

#include <fmt/format.h>
#include <rocksdb/write_batch.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "spool/keys.h"
#include "spool/segment_scan.h"
#include "spool/wal_reader.h"

namespace opsrelay::spool {
namespace {

// Of a put in a WriteBatch (db/dbformat.h): the tag, the family unless it is the default one, then
// key and value, each behind its length.
constexpr char kPutTag = 1;
constexpr char kFamilyPutTag = 5;
constexpr std::size_t kIdEntryFixedBytes = 8;
constexpr std::size_t kIdBytes = 16;

std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

class Changes final : public rocksdb::WriteBatch::Handler {
public:
    explicit Changes(const LogVisitor& visitor) : visitor_(visitor) {}
    rocksdb::Status PutCF(std::uint32_t family, const rocksdb::Slice& key,
                          const rocksdb::Slice& value) override {
        visitor_.put(family, view(key), view(value));
        return rocksdb::Status::OK();
    }
    rocksdb::Status DeleteCF(std::uint32_t family, const rocksdb::Slice& key) override {
        visitor_.remove(family, view(key));
        return rocksdb::Status::OK();
    }

private:
    const LogVisitor& visitor_;
};

std::optional<std::uint32_t> take_number(std::string_view& rest) {
    std::uint32_t value = 0;
    for (unsigned shift = 0; shift < 32 && !rest.empty(); shift += 7) {
        const auto byte = static_cast<std::uint8_t>(rest.front());
        rest.remove_prefix(1);
        value |= static_cast<std::uint32_t>(byte & 0x7fU) << shift;
        if (byte < 0x80) return value;
    }
    return std::nullopt;
}

std::optional<std::string_view> take_text(std::string_view& rest) {
    const auto size = take_number(rest);
    if (!size || *size > rest.size()) return std::nullopt;
    const auto text = rest.substr(0, *size);
    rest.remove_prefix(*size);
    return text;
}

struct Put {
    FamilyNumber family = kDefaultFamilyNumber;
    std::string_view key;
    std::string_view value;
};

std::optional<Put> take_put(std::string_view& rest) {
    if (rest.empty() || (rest.front() != kPutTag && rest.front() != kFamilyPutTag)) {
        return std::nullopt;
    }
    Put put;
    const bool named = rest.front() == kFamilyPutTag;
    rest.remove_prefix(1);
    if (named) {
        const auto family = take_number(rest);
        if (!family) return std::nullopt;
        put.family = *family;
    }
    const auto key = take_text(rest);
    const auto value = key ? take_text(rest) : std::nullopt;
    if (!value) return std::nullopt;
    put.key = *key;
    put.value = *value;
    return put;
}

// The family of the put whose value begins at `at`; its number takes one byte.
FamilyNumber family_before(std::string_view bytes, const FoundSegment& found) {
    const auto key = seq_key(found.segment.first_seq);
    const std::string_view key_text(key.data(), key.size());
    std::size_t length_bytes = 1;
    for (auto size = found.value.size(); size >= 0x80; size >>= 7U) ++length_bytes;
    const auto before = length_bytes + key.size() + 3;  // tag, family, length of the key
    if (found.at < before) return kUnknownFamily;
    const auto put = bytes.substr(found.at - before);
    const auto family = static_cast<std::uint8_t>(put[1]);
    if (put[0] != kFamilyPutTag || family >= 0x80 || put.substr(3, key.size()) != key_text) {
        return kUnknownFamily;
    }
    return family;
}

// A record that is not whole: its structure cannot be relied on, so what is taken has a checksum of
// its own or says the same as something that has.
void visit_damaged(std::string_view bytes, const LogVisitor& visitor) {
    scan_segments(bytes, [&](const FoundSegment& found) {
        const auto key = seq_key(found.segment.first_seq);
        const auto family = family_before(bytes, found);
        const auto count = found.segment.offsets.size() - 1;
        auto rest = bytes.substr(found.at + found.value.size());
        const auto end = take_put(rest);
        const bool has_end = end && end->family == kDefaultFamilyNumber &&
                             end->key.starts_with("end/") &&
                             decode_u64(end->value) == found.segment.end_seq();
        if (has_end) visitor.put(end->family, end->key, end->value);
        if (has_end || family != kUnknownFamily) {
            visitor.put(family, {key.data(), key.size()}, found.value);
        }
        const auto ids = has_end ? take_put(rest) : std::nullopt;
        if (ids && ids->key.size() == key.size() &&
            ids->value.size() == kIdEntryFixedBytes + kIdBytes * count) {
            visitor.put(ids->family, ids->key, ids->value);
        }
        return true;
    });
}

}  // namespace

Result<LogReport> visit_log(const std::string& file, const LogVisitor& visitor) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) return errno_error(Errc::io, fmt::format("open {}", file), errno);
    WalReader reader(stream);
    WalRecord record;
    LogReport report;
    while (reader.next(record)) {
        ++report.records;
        if (record.whole) {
            const rocksdb::WriteBatch batch(record.bytes);
            Changes changes(visitor);
            if (batch.Iterate(&changes).ok()) continue;
        }
        ++report.damaged_records;
        visit_damaged(record.bytes, visitor);
    }
    if (stream.bad()) return errno_error(Errc::io, fmt::format("read {}", file), errno);
    report.damaged_bytes = reader.damaged_bytes();
    report.torn_bytes = reader.torn_bytes();
    return report;
}

}  // namespace opsrelay::spool
