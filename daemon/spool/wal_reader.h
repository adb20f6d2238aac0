// Pure: the records of one of RocksDB's write logs, around damage. Its own reader gives up at the
// first damaged byte, or drops all that follows in silence. The format is RocksDB's
// (db/log_format.h): blocks of 32 KiB; in them fragments of u32 masked CRC-32C, u16 length, u8 type
// (whole, first, middle, last), payload; little-endian.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace opsrelay::spool {

inline constexpr std::size_t kWalBlockBytes = 32U << 10U;
inline constexpr std::size_t kWalHeaderBytes = 7;
/// More than any batch of ours has; a longer record is a chain of damaged fragments.
inline constexpr std::size_t kWalRecordBytesMax = 32U << 20U;

/// CRC-32C (Castagnoli) of type and payload, masked as the log stores it.
[[nodiscard]] std::uint32_t wal_checksum(char type, std::string_view payload) noexcept;

struct WalRecord {
    std::string bytes;      // a WriteBatch
    bool whole = true;      // false: part of it failed its checksum or is missing
    std::uint64_t end = 0;  // of a whole one: where it ends in the log
};

/// Holds one block and one record in memory.
class WalReader {
public:
    /// `log` outlives the reader.
    explicit WalReader(std::istream& log) : log_(log) {}

    /// False at the end of the log.
    [[nodiscard]] bool next(WalRecord& record);

    /// Bytes passed over so far that belong to no fragment with a good checksum.
    [[nodiscard]] std::uint64_t damaged_bytes() const noexcept { return damaged_; }
    /// As damaged_bytes(), but at the end of the log, which cuts them off: a crash.
    [[nodiscard]] std::uint64_t torn_bytes() const noexcept { return torn_; }

private:
    struct Fragment {
        char type = 0;  // 0: not known
        bool good = false;
        std::string_view payload;  // of block_
        std::uint64_t end = 0;     // where it ends in the log
    };

    [[nodiscard]] bool read_block();
    void cut(std::size_t begin);
    [[nodiscard]] bool is_cut_off(std::size_t at) const;
    [[nodiscard]] std::size_t good_fragment_at(std::size_t at);
    [[nodiscard]] std::size_t next_good_fragment(std::size_t from);
    [[nodiscard]] bool take(const Fragment& fragment, WalRecord& record);
    void begin_record(const Fragment& fragment);
    void hand_over(WalRecord& record);

    std::istream& log_;
    std::string block_;
    std::vector<Fragment> fragments_;  // of block_
    std::size_t next_fragment_ = 0;
    std::string pending_;  // a record whose last fragment did not come yet
    bool is_pending_ = false;
    bool pending_whole_ = true;
    std::uint64_t pending_end_ = 0;
    std::uint64_t block_begin_ = 0;  // of block_ in the log
    std::uint64_t damaged_ = 0;
    std::uint64_t torn_ = 0;
    std::uint64_t search_bytes_left_ = 64U << 20U;  // of checksums that did not fit
};

}  // namespace opsrelay::spool
