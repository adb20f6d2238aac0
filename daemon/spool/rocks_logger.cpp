#include "spool/rocks_logger.h"

#include <rocksdb/env.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <string_view>

#include "core/log.h"

namespace opsrelay::spool {
namespace {

constexpr std::size_t kLineBytesMax = 1024;

class Logger final : public rocksdb::Logger {
public:
    Logger() : rocksdb::Logger(rocksdb::WARN_LEVEL) {}

    using rocksdb::Logger::Logv;
    void Logv(const char* format, std::va_list arguments) override {
        std::array<char, kLineBytesMax> line{};
        const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
        if (length <= 0) return;
        std::string_view text(line.data(),
                              std::min(static_cast<std::size_t>(length), line.size() - 1));
        while (text.ends_with('\n')) text.remove_suffix(1);
        log::debug("rocksdb", text);
    }
    void LogHeader(const char*, std::va_list) override {}  // versions and options, at each open
};

}  // namespace

std::shared_ptr<rocksdb::Logger> make_logger() { return std::make_shared<Logger>(); }

}  // namespace opsrelay::spool
