#include "upstream/decode.h"

#include <zlib.h>
#include <zstd.h>

#include <array>
#include <memory>

#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

constexpr int kGzipOnly = 15 + 16;     // zlib.h, inflateInit2: the largest window, gzip header
constexpr int kZstdWindowLogMax = 23;  // 8 MiB, what RFC 8878 asks every decoder to have
constexpr std::size_t kChunk = 32U << 10U;

/// False: there was no room for it.
bool append(Decoded& to, const char* bytes, std::size_t size, std::size_t bytes_max) {
    if (to.bytes.size() + size > bytes_max) {
        to = {Decoding::too_large, {}};
        return false;
    }
    to.bytes.append(bytes, size);
    return true;
}

Decoded gunzip(std::string_view body, std::size_t bytes_max) {
    z_stream stream{};
    if (inflateInit2(&stream, kGzipOnly) != Z_OK) return {Decoding::corrupt, {}};
    const std::unique_ptr<z_stream, int (*)(z_streamp)> owner(&stream, &inflateEnd);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
    stream.avail_in = static_cast<uInt>(body.size());
    Decoded decoded;
    std::array<char, kChunk> chunk;
    while (true) {
        stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
        stream.avail_out = static_cast<uInt>(chunk.size());
        const int result = inflate(&stream, Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END) return {Decoding::corrupt, {}};
        if (!append(decoded, chunk.data(), chunk.size() - stream.avail_out, bytes_max)) {
            return decoded;
        }
        if (result != Z_STREAM_END) continue;
        if (stream.avail_in == 0) return decoded;
        if (inflateReset(&stream) != Z_OK) return {Decoding::corrupt, {}};
    }
}

Decoded unzstd(std::string_view body, std::size_t bytes_max) {
    const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                          &ZSTD_freeDCtx);
    if (!context || ZSTD_isError(ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax,
                                                        kZstdWindowLogMax))) {
        return {Decoding::corrupt, {}};
    }
    ZSTD_inBuffer in{body.data(), body.size(), 0};
    Decoded decoded;
    std::array<char, kChunk> chunk;
    while (true) {
        ZSTD_outBuffer out{chunk.data(), chunk.size(), 0};
        const auto left = ZSTD_decompressStream(context.get(), &out, &in);
        if (ZSTD_isError(left)) return {Decoding::corrupt, {}};
        if (!append(decoded, chunk.data(), out.pos, bytes_max)) return decoded;
        const bool all_read = in.pos == in.size;
        if (all_read && left == 0) return decoded;
        // What ends in the middle of a frame makes no more output.
        if (all_read && out.pos < out.size) return {Decoding::corrupt, {}};
    }
}

}  // namespace

Decoded decode(std::string_view coding, std::string_view body, std::size_t bytes_max,
               BatchCodings allowed) {
    if (body.size() > bytes_max) return {Decoding::too_large, {}};
    const auto name = lower(coding);
    if (name.empty() || name == "identity") return {Decoding::ok, std::string(body)};
    if ((name == "gzip" || name == "x-gzip") && allowed != BatchCodings::identity) {
        return gunzip(body, bytes_max);
    }
    if (name == "zstd" && allowed == BatchCodings::gzip_zstd) return unzstd(body, bytes_max);
    return {Decoding::unsupported, {}};
}

std::string_view accepted_codings(BatchCodings allowed) {
    switch (allowed) {
        case BatchCodings::identity: return "identity";
        case BatchCodings::gzip: return "gzip";
        case BatchCodings::gzip_zstd: break;
    }
    return "gzip, zstd";
}

}  // namespace opsrelay::upstream
