// What the commands talk to in tests: a Unix listener whose connections follow a script.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/unique_fd.h"

namespace opsrelay::cli {

/// Accepts one connection after the other in its own thread, hands each to the next handler and
/// closes it afterwards. Ends after the last handler, or when nobody connects for 10 s.
class FakeServer {
public:
    using Handler = std::function<void(int fd)>;

    /// Binds `path`; connections succeed from now on.
    FakeServer(const std::string& path, std::vector<Handler> handlers);
    FakeServer(const FakeServer&) = delete;
    FakeServer& operator=(const FakeServer&) = delete;
    ~FakeServer();

    /// Waits for the last handler and returns how many ran.
    std::size_t join();

private:
    UniqueFd listener_;
    std::vector<Handler> handlers_;
    std::size_t served_ = 0;
    std::thread thread_;
};

/// A line without its newline; empty at the end of the stream. Waits at most 10 s.
[[nodiscard]] std::string read_line(int fd);
void write_text(int fd, const std::string& text);

/// Answers any HTTP request with these bytes.
[[nodiscard]] FakeServer::Handler http_answer(std::string bytes);
[[nodiscard]] std::string http_reply(int status, const std::string& body);

}  // namespace opsrelay::cli
