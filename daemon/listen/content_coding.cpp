#include "listen/content_coding.h"

#include <zlib.h>
#include <zstd.h>

#include <array>
#include <memory>

#include "listen/http_rules.h"

namespace opsrelay::listen {

namespace {

constexpr int kGzipOnly = 15 + 16;  // zlib.h, inflateInit2: the largest window, gzip header
constexpr int kZstdWindowLogMax =
    23;  // 8 MiB, what RFC 8878 (3.1.1.1.2) wants every decoder to have
constexpr std::size_t kChunk = 16U << 10U;

using State = Unpacked::State;

// False: there is no room for it.
bool append(Unpacked& to, const char* bytes, std::size_t size, Bytes bytes_max) {
    if (to.bytes.size() + size > bytes_max.count) {
        to = {State::too_large, {}};
        return false;
    }
    to.bytes.append(bytes, size);
    return true;
}

Unpacked gunzip(std::string_view packed, Bytes bytes_max) {
    z_stream stream{};
    if (inflateInit2(&stream, kGzipOnly) != Z_OK) return {State::damaged, {}};
    const std::unique_ptr<z_stream, int (*)(z_streamp)> owner(&stream, &inflateEnd);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    Unpacked unpacked;
    std::array<char, kChunk> chunk;
    while (true) {
        stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
        stream.avail_out = static_cast<uInt>(chunk.size());
        const int result = inflate(&stream, Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END) return {State::damaged, {}};
        const auto made = chunk.size() - stream.avail_out;
        if (!append(unpacked, chunk.data(), made, bytes_max)) return unpacked;
        if (result != Z_STREAM_END) continue;
        if (stream.avail_in == 0) return unpacked;
        if (inflateReset(&stream) != Z_OK) return {State::damaged, {}};
    }
}

Unpacked unzstd(std::string_view packed, Bytes bytes_max) {
    const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                          &ZSTD_freeDCtx);
    if (!context || ZSTD_isError(ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax,
                                                        kZstdWindowLogMax))) {
        return {State::damaged, {}};
    }
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    Unpacked unpacked;
    std::array<char, kChunk> chunk;
    while (true) {
        ZSTD_outBuffer out{chunk.data(), chunk.size(), 0};
        const auto left = ZSTD_decompressStream(context.get(), &out, &in);
        if (ZSTD_isError(left)) return {State::damaged, {}};
        if (!append(unpacked, chunk.data(), out.pos, bytes_max)) return unpacked;
        const bool all_read = in.pos == in.size;
        if (all_read && left == 0) return unpacked;
        // What ends in the middle of a frame makes no more output.
        if (all_read && out.pos < out.size) return {State::damaged, {}};
    }
}

}  // namespace

std::optional<ContentCoding> content_coding(std::string_view header) noexcept {
    constexpr std::string_view kSpace = " \t";
    const auto first = header.find_first_not_of(kSpace);
    if (first == std::string_view::npos) return std::nullopt;
    header = header.substr(first, header.find_last_not_of(kSpace) - first + 1);
    for (const auto& row : kContentCodings) {
        if (same_text(header, row.name)) return row.value;
    }
    return std::nullopt;
}

Unpacked unpack(ContentCoding coding, std::string_view body, Bytes bytes_max) {
    switch (coding) {
        case ContentCoding::identity: {
            Unpacked unpacked;
            (void)append(unpacked, body.data(), body.size(), bytes_max);
            return unpacked;
        }
        case ContentCoding::gzip: return gunzip(body, bytes_max);
        case ContentCoding::zstd: return unzstd(body, bytes_max);
    }
    return {State::damaged, {}};
}

}  // namespace opsrelay::listen
