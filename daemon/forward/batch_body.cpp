#include "forward/batch_body.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <memory>

#include "core/assert.h"

namespace opsrelay::forward {

namespace {

// Fields repeat from event to event, which the fastest levels find too.
constexpr int kGzipLevel = 1;
constexpr int kZstdLevel = 1;
constexpr int kWindowBits = 15 + 16;  // zlib.h, deflateInit2: the largest window, gzip header
constexpr int kMemoryLevel = 8;       // zlib's default

std::string_view content_type(BatchFormat format) {
    return format == BatchFormat::ndjson ? "application/x-ndjson" : "application/json";
}

std::string join(std::span<const std::string_view> events, BatchFormat format) {
    std::size_t bytes = 2;
    for (const auto event : events) bytes += event.size() + 1;
    std::string body;
    body.reserve(bytes);
    const bool array = format == BatchFormat::array;
    if (array) body += '[';
    for (const auto event : events) {
        body += event;
        body += array ? ',' : '\n';
    }
    if (array) body.back() = ']';
    return body;
}

std::string gzip(std::string_view body) {
    z_stream stream{};
    const int begun = deflateInit2(&stream, kGzipLevel, Z_DEFLATED, kWindowBits, kMemoryLevel,
                                   Z_DEFAULT_STRATEGY);
    OPSRELAY_ASSERT(begun == Z_OK);  // else there is no memory, and new would have ended us
    const std::unique_ptr<z_stream, int (*)(z_streamp)> owner(&stream, &deflateEnd);
    std::string packed(deflateBound(&stream, body.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
    stream.avail_in = static_cast<uInt>(body.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    const int done = deflate(&stream, Z_FINISH);
    OPSRELAY_ASSERT(done == Z_STREAM_END);  // deflateBound() said that it fits
    packed.resize(packed.size() - stream.avail_out);
    return packed;
}

// One frame, which says how long its content is.
std::string zstd(std::string_view body) {
    std::string packed(ZSTD_compressBound(body.size()), '\0');
    const auto size =
        ZSTD_compress(packed.data(), packed.size(), body.data(), body.size(), kZstdLevel);
    OPSRELAY_ASSERT(!ZSTD_isError(size));  // else there is no memory
    packed.resize(size);
    return packed;
}

}  // namespace

std::string encode_batch(std::span<const std::string_view> events, BatchFormat format,
                         BatchCoding coding) {
    OPSRELAY_ASSERT(!events.empty());
    auto body = join(events, format);
    switch (coding) {
        case BatchCoding::gzip: return gzip(body);
        case BatchCoding::zstd: return zstd(body);
        case BatchCoding::none: break;
    }
    return body;
}

std::string batch_headers(BatchFormat format, BatchCoding coding) {
    const auto type = fmt::format("Content-Type: {}\r\n", content_type(format));
    if (coding == BatchCoding::none) return type;
    return fmt::format("{}Content-Encoding: {}\r\n", type, to_string(coding));
}

}  // namespace opsrelay::forward
