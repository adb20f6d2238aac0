#include "spool/id_run.h"

#include <algorithm>

#include "spool/byte_order.h"

namespace opsrelay::spool {
namespace {

constexpr std::size_t kIdBytes = 16;
constexpr std::uint8_t kRunVersion = 1;
constexpr std::size_t kDescriptorBytes = 37;
constexpr std::size_t kNameBytes = 8;

}  // namespace

RunKey run_key(RunName name, std::uint32_t page) noexcept {
    RunKey key;
    store_be(key.data(), name.generation);
    store_be(key.data() + 4, name.run);
    store_be(key.data() + 8, page);
    return key;
}

std::optional<RunName> parse_run_key(std::string_view key) noexcept {
    if (key.size() != std::tuple_size_v<RunKey>) return std::nullopt;
    return RunName{load_be<std::uint32_t>(key.data()), load_be<std::uint32_t>(key.data() + 4)};
}

std::optional<std::uint32_t> parse_run_page(std::string_view key) noexcept {
    if (key.size() != std::tuple_size_v<RunKey>) return std::nullopt;
    return load_be<std::uint32_t>(key.data() + 8);
}

std::uint32_t pages_for(std::uint64_t ids) noexcept {
    const auto pages = (ids + kIdsPerPage - 1) / kIdsPerPage;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(pages, 1, kDescriptorPage));
}

std::uint32_t page_of(const IdHash& id, std::uint32_t pages) noexcept {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint32_t>(Wide{id.hi} * pages >> 64U);
}

void append_id(std::string& page, const IdHash& id) {
    const auto at = page.size();
    page.resize(at + kIdBytes);
    store_be(page.data() + at, id.hi);
    store_be(page.data() + at + 8, id.lo);
}

IdHash id_at(std::string_view page, std::size_t index) noexcept {
    const char* const at = page.data() + index * kIdBytes;
    return {load_be<std::uint64_t>(at), load_be<std::uint64_t>(at + 8)};
}

std::size_t ids_in_page(std::string_view page) noexcept {
    return page.size() % kIdBytes == 0 ? page.size() / kIdBytes : 0;
}

bool page_contains(std::string_view page, const IdHash& id) noexcept {
    std::size_t low = 0;
    std::size_t high = ids_in_page(page);
    while (low < high) {
        const auto middle = low + (high - low) / 2;
        const auto found = id_at(page, middle);
        if (found == id) return true;
        if (found < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

std::string encode_descriptor(const RunInfo& info) {
    std::string value(kDescriptorBytes + kNameBytes * info.replaces.size(), '\0');
    store_be(value.data(), kRunVersion);
    store_be(value.data() + 1, info.ids);
    store_be(value.data() + 9, static_cast<std::uint64_t>(info.oldest_ms));
    store_be(value.data() + 17, static_cast<std::uint64_t>(info.newest_ms));
    store_be(value.data() + 25, info.pages);
    store_be(value.data() + 29, info.log_end);
    char* at = value.data() + kDescriptorBytes;
    for (const auto& name : info.replaces) {
        store_be(at, name.generation);
        store_be(at + 4, name.run);
        at += kNameBytes;
    }
    return value;
}

std::optional<RunInfo> decode_descriptor(RunName name, std::string_view value) {
    if (value.size() < kDescriptorBytes) return std::nullopt;
    if ((value.size() - kDescriptorBytes) % kNameBytes != 0) return std::nullopt;
    if (load_be<std::uint8_t>(value.data()) != kRunVersion) return std::nullopt;
    RunInfo info;
    info.name = name;
    info.ids = load_be<std::uint64_t>(value.data() + 1);
    info.oldest_ms = static_cast<std::int64_t>(load_be<std::uint64_t>(value.data() + 9));
    info.newest_ms = static_cast<std::int64_t>(load_be<std::uint64_t>(value.data() + 17));
    info.pages = load_be<std::uint32_t>(value.data() + 25);
    info.log_end = load_be<std::uint64_t>(value.data() + 29);
    for (auto at = kDescriptorBytes; at < value.size(); at += kNameBytes) {
        const char* const from = value.data() + at;
        info.replaces.push_back({load_be<std::uint32_t>(from), load_be<std::uint32_t>(from + 4)});
    }
    if (info.ids == 0 || info.pages == 0 || info.pages > kDescriptorPage) return std::nullopt;
    if (info.oldest_ms < 0 || info.newest_ms < info.oldest_ms) return std::nullopt;
    return info;
}

}  // namespace opsrelay::spool
