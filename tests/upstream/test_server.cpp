#include "upstream/test_server.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>

namespace opsrelay::upstream {

using tcp = asio::ip::tcp;

TestServer::TestServer(Settings settings)
    : server_(io_.get_executor(), clock_, std::move(settings)) {
    const auto started = server_.start();
    REQUIRE_MESSAGE(started.has_value(), (started ? std::string{} : started.error().context));
    thread_ = std::thread([this] { io_.run(); });
}

TestServer::~TestServer() {
    asio::post(io_, [this] { server_.stop(); });
    thread_.join();
}

int Exchange::status() const { return head.size() < 12 ? 0 : std::atoi(head.c_str() + 9); }

std::string Exchange::header(std::string_view name) const {
    const auto at = head.find(fmt::format("\r\n{}: ", name));
    if (at == std::string::npos) return {};
    const auto begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
}

TestClient::TestClient(std::uint16_t port) {
    boost::system::error_code ec;
    socket_.connect({asio::ip::address_v4::loopback(), port}, ec);
    if (ec) socket_.close(ec);
}

void TestClient::send(std::string_view bytes) {
    boost::system::error_code ignored;  // a server that refuses resets: reading shows it
    if (connected()) asio::write(socket_, asio::buffer(bytes), ignored);
}

Exchange TestClient::exchange(std::string_view bytes) {
    send(bytes);
    return read(false);
}

Exchange TestClient::read_all() { return read(true); }

std::string TestClient::read_head() {
    boost::system::error_code ec;
    const auto size =
        asio::read_until(socket_, asio::dynamic_buffer(buffer_), std::string_view("\r\n\r\n"), ec);
    auto head = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return head;
}

std::size_t TestClient::waiting() { return buffer_.size() + socket_.available(); }

Exchange TestClient::read(bool whole_connection) {
    Exchange got;
    got.connected = connected();
    while (got.connected) {
        const auto end = buffer_.find("\r\n\r\n");
        if (end != std::string::npos && got.head.empty()) {
            got.head = buffer_.substr(0, end + 2);
            buffer_.erase(0, end + 4);
            const auto length = got.header("Content-Length");
            got.promised = static_cast<std::size_t>(std::atoll(length.c_str()));
            if (got.header("Transfer-Encoding") == "chunked") whole_connection = true;
        }
        if (!got.head.empty() && !whole_connection && buffer_.size() >= got.promised) break;
        std::array<char, 4096> chunk{};
        boost::system::error_code ec;
        const auto size = socket_.read_some(asio::buffer(chunk), ec);
        buffer_.append(chunk.data(), size);
        got.reset = ec == asio::error::connection_reset;
        got.closed = ec == asio::error::eof;
        if (ec) break;
    }
    got.body = std::exchange(buffer_, {});
    return got;
}

std::string request_text(std::string_view method, std::string_view target, std::string_view body,
                         std::string_view headers) {
    return fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{}",
                       method, target, headers, body.size(), body);
}

std::string event(std::string_view id, int input_tokens) {
    return fmt::format(R"({{"externalRequestId":"{}","provider":"openai","model":"gpt-4o",)"
                       R"("inputTokens":{},"outputTokens":5,"status":"success"}})",
                       id, input_tokens);
}

Exchange call(std::uint16_t port, std::string_view method, std::string_view target,
              std::string_view body) {
    TestClient client(port);
    return client.exchange(
        request_text(method, target, body, "X-API-Key: test\r\nConnection: close\r\n"));
}

Exchange ingest(std::uint16_t port, std::string_view id) {
    TestClient client(port);
    return client.exchange(request_text("POST", "/v1/ingest/llm-request", event(id)));
}

}  // namespace opsrelay::upstream
