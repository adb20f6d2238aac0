#include "spool/wal_reader.h"

#include <algorithm>
#include <boost/crc.hpp>
#include <istream>
#include <utility>

#include "spool/byte_order.h"

namespace opsrelay::spool {
namespace {

constexpr char kWhole = 1;
constexpr char kFirst = 2;
constexpr char kLast = 4;  // 3: between first and last
constexpr char kGap = 5;   // none: what was begun does not go on behind it

bool all_zero(std::string_view bytes) noexcept {
    return bytes.find_first_not_of('\0') == std::string_view::npos;
}

}  // namespace

std::uint32_t wal_checksum(char type, std::string_view payload) noexcept {
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
    crc.process_byte(static_cast<unsigned char>(type));
    crc.process_bytes(payload.data(), payload.size());
    const std::uint32_t plain = crc.checksum();
    return ((plain >> 15U) | (plain << 17U)) + 0xa282ead8U;  // util/crc32c.h, Mask()
}

bool WalReader::next(WalRecord& record) {
    for (;;) {
        while (next_fragment_ < fragments_.size()) {
            // A record may end before the fragment that shows it, which then comes again.
            if (take(fragments_[next_fragment_], record)) return true;
        }
        if (read_block()) continue;
        if (!is_pending_) return false;
        pending_whole_ = false;
        hand_over(record);
        return true;
    }
}

bool WalReader::read_block() {
    fragments_.clear();
    next_fragment_ = 0;
    block_begin_ += block_.size();
    block_.resize(kWalBlockBytes);
    log_.read(block_.data(), static_cast<std::streamsize>(block_.size()));
    block_.resize(static_cast<std::size_t>(log_.gcount()));
    if (block_.empty()) return false;
    cut(0);
    return true;
}

void WalReader::cut(std::size_t begin) {
    while (begin + kWalHeaderBytes <= block_.size()) {
        if (const auto size = good_fragment_at(begin); size > 0) {
            damaged_ += std::exchange(torn_, 0);
            fragments_.push_back(
                {block_[begin + 6], true,
                 std::string_view(block_).substr(begin + kWalHeaderBytes, size - kWalHeaderBytes),
                 block_begin_ + begin + size});
            begin += size;
            continue;
        }
        const auto rest = std::string_view(block_).substr(begin);
        if (all_zero(rest)) {  // space that was set aside, or a part that never came to the disk
            fragments_.push_back({kGap, false, {}});
            return;
        }
        const auto end = next_good_fragment(begin + 1);
        const auto payload = std::min(begin + kWalHeaderBytes, end);
        const char type = block_[begin + 6];
        fragments_.push_back({type >= kWhole && type <= kLast ? type : '\0', false,
                              std::string_view(block_).substr(payload, end - payload)});
        (is_cut_off(begin) ? torn_ : damaged_) += end - begin;
        begin = end;
    }
}

// Whether the log ends before the fragment does.
bool WalReader::is_cut_off(std::size_t at) const {
    const std::size_t length = load_le<std::uint16_t>(block_.data() + at + 4);
    return block_.size() < kWalBlockBytes && at + kWalHeaderBytes + length > block_.size();
}

// 0: none. Its whole size otherwise.
std::size_t WalReader::good_fragment_at(std::size_t at) {
    if (at + kWalHeaderBytes > block_.size()) return 0;
    const char* const header = block_.data() + at;
    const char type = header[6];
    if (type < kWhole || type > kLast) return 0;
    const std::size_t length = load_le<std::uint16_t>(header + 4);
    if (at + kWalHeaderBytes + length > block_.size()) return 0;
    const std::string_view payload(header + kWalHeaderBytes, length);
    if (wal_checksum(type, payload) == load_le<std::uint32_t>(header)) {
        return kWalHeaderBytes + length;
    }
    search_bytes_left_ -= std::min<std::uint64_t>(search_bytes_left_, length);
    return 0;
}

// Byte by byte, since the length of a damaged fragment cannot be relied on. Of a log that is
// nothing but noise the rest is passed over block by block.
std::size_t WalReader::next_good_fragment(std::size_t from) {
    for (auto at = from; at < block_.size() && search_bytes_left_ > 0; ++at) {
        if (good_fragment_at(at) > 0) return at;
    }
    return block_.size();
}

// True: `record` is one. The fragment was used up unless it begins the record after that one.
bool WalReader::take(const Fragment& fragment, WalRecord& record) {
    const bool begins =
        fragment.type == kWhole || fragment.type == kFirst || (fragment.type == 0 && !is_pending_);
    if (begins && is_pending_) {
        pending_whole_ = false;
        hand_over(record);
        return true;
    }
    ++next_fragment_;
    if (fragment.type == kGap) {
        pending_whole_ = false;
        return false;
    }
    if (begins) {
        begin_record(fragment);
        if (fragment.type != kWhole) return false;
        pending_end_ = fragment.end;
        hand_over(record);
        return true;
    }
    if (!is_pending_) {
        begin_record(fragment);
        pending_whole_ = false;  // its beginning is missing
    } else {
        pending_ += fragment.payload;
        pending_whole_ = pending_whole_ && fragment.good;
    }
    if (fragment.type != kLast && pending_.size() < kWalRecordBytesMax) return false;
    pending_whole_ = pending_whole_ && fragment.type == kLast;
    pending_end_ = fragment.end;
    hand_over(record);
    return true;
}

void WalReader::begin_record(const Fragment& fragment) {
    pending_.assign(fragment.payload);
    is_pending_ = true;
    pending_whole_ = fragment.good;
}

void WalReader::hand_over(WalRecord& record) {
    record.bytes = std::exchange(pending_, {});
    record.whole = pending_whole_;
    record.end = pending_whole_ ? pending_end_ : 0;
    is_pending_ = false;
}

}  // namespace opsrelay::spool
