#include "upstream/wire.h"

#include <boost/beast/http/status.hpp>

#include "core/json_text.h"

namespace opsrelay::upstream {

namespace {

constexpr std::size_t kRowsChunk = 256U << 10U;

}  // namespace

std::string reply_head(const Reply& reply, std::string_view date, bool keep_alive,
                       std::optional<std::size_t> size) {
    namespace http = boost::beast::http;
    const auto reason = http::obsolete_reason(static_cast<http::status>(reply.status));
    std::string head;
    head.reserve(256);
    head += "HTTP/1.1 ";
    head += std::to_string(reply.status);
    head += ' ';
    head.append(reason.data(), reason.size());
    head += "\r\nDate: ";
    head += date;
    head += "\r\n";
    if (!reply.content_type.empty()) {
        head += "Content-Type: ";
        head += reply.content_type;
        head += "\r\n";
    }
    if (!size) {
        head += "Transfer-Encoding: chunked\r\n";
    } else if (reply.status != 204) {  // RFC 9110, 8.6: not with 204
        head += "Content-Length: ";
        head += std::to_string(*size);
        head += "\r\n";
    }
    if (!keep_alive) head += "Connection: close\r\n";
    head += reply.extra_headers;
    head += "\r\n";
    return head;
}

std::size_t append_rows(std::string& out, const RowTable& rows, bool ids, std::size_t row,
                        std::size_t end) {
    for (; row < end && out.size() < kRowsChunk; ++row) {
        if (ids) {
            const auto quoted = json_string(rows.id(row));
            out.append(quoted, 1, quoted.size() - 2) += '\n';
            continue;
        }
        out += R"({"externalRequestId":)" + json_string(rows.id(row));
        out += R"(,"body":)";
        // Line breaks in a JSON text are only ever white space between tokens.
        for (const char c : rows.ids_only() ? std::string_view("null") : rows.body(row)) {
            out += c == '\n' || c == '\r' ? ' ' : c;
        }
        out += "}\n";
    }
    return row;
}

}  // namespace opsrelay::upstream
