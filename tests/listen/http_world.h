// An HTTP listener on one event loop, requests to it, and what comes back.
#pragma once

#include <sys/socket.h>

#include <string>

#include "listen/world.h"

namespace opsrelay::listen::testing {

struct HttpWorld : World {
    explicit HttpWorld(bool unix_socket = false) {
        add(ListenerKind::http, unix_socket ? "http.sock" : "");
        inlet.settle_at_once = true;
    }
    [[nodiscard]] Client connect() const { return {SOCK_STREAM, address()}; }
};

inline std::string request(const std::string& body, const std::string& extra = {},
                           const std::string& target = "/v1/ingest/llm-request",
                           const std::string& method = "POST") {
    return method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" +
           "Content-Type: application/json\r\nX-API-Key: any\r\n" + extra +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

inline int status_of(const std::string& reply) {
    return reply.starts_with("HTTP/1.1 ") ? std::stoi(reply.substr(9, 3)) : 0;
}

inline std::string body_of(const std::string& reply) {
    const auto end = reply.find("\r\n\r\n");
    return end == std::string::npos ? std::string{} : reply.substr(end + 4);
}

/// The whole reply, by its Content-Length.
inline std::string exchange(World& world, Client& client, const std::string& bytes) {
    client.received.clear();
    client.send(world, bytes);
    world.run_until([&] {
        client.read();
        const auto at = client.received.find("Content-Length: ");
        const auto end = client.received.find("\r\n\r\n");
        if (at == std::string::npos || end == std::string::npos) return client.closed();
        return client.received.size() >= end + 4 + std::stoul(client.received.substr(at + 16));
    });
    return client.received;
}

inline bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

inline std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

}  // namespace opsrelay::listen::testing
