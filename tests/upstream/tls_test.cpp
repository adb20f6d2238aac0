// Certificates: good, unknown, for another name, expired, unreadable.
#include "upstream/tls.h"

#include <doctest/doctest.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <string>

#include "support/temp_dir.h"
#include "upstream/test_server.h"

namespace opsrelay::upstream {

TEST_CASE("upstream/tls: certificate files that cannot be used are named") {
    const test::TempDir directory;
    const auto missing = directory / "cert.pem";
    asio::io_context io;
    SystemClock clock;
    Settings settings;
    settings.tls.cert_file = missing;
    settings.tls.key_file = missing;
    Server server(io.get_executor(), clock, settings);
    const auto started = server.start();
    REQUIRE(started.has_error());
    CHECK(started.error().code == Errc::io);
    CHECK(started.error().context.starts_with("--tls-cert " + missing + ": "));
}

TEST_CASE("upstream/server: TLS shows the certificate that was asked for") {
    namespace ssl = asio::ssl;
    struct Case {
        const char* name;
        const char* host;
        bool expired;
        bool trusted;
        bool good;
    };
    const Case cases[] = {
        {"good", "localhost", false, true, true},
        {"expired", "localhost", true, true, false},
        {"another host", "example.test", false, true, false},
        {"not trusted", "localhost", false, false, false},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        const test::TempDir directory;
        const auto certificate = directory / "cert.pem";
        Settings settings;
        settings.tls.self_signed = true;
        settings.tls.host = test.host;
        settings.tls.expired = test.expired;
        settings.tls.cert_out = certificate;
        const TestServer server(settings);

        asio::io_context io;
        ssl::context context(ssl::context::tls_client);
        context.set_verify_mode(ssl::verify_peer);
        if (test.trusted) context.load_verify_file(certificate);
        ssl::stream<asio::ip::tcp::socket> client(io, context);
        client.set_verify_callback(ssl::host_name_verification("localhost"));
        client.next_layer().connect({asio::ip::address_v4::loopback(), server.port()});
        boost::system::error_code ec;
        client.handshake(ssl::stream_base::client, ec);
        CHECK(!ec.failed() == test.good);
        if (ec) continue;
        asio::write(client, asio::buffer(request_text("POST", "/v1/ingest/llm-request", event("a"),
                                                      "X-API-Key: test\r\nConnection: close\r\n")));
        std::string reply;
        asio::read(client, asio::dynamic_buffer(reply), ec);
        CHECK(reply.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(ec == asio::error::eof);  // an orderly end, not a truncation
        CHECK(call(server.control_port(), "GET", "/stats").body.find(R"("rows":1,)") !=
              std::string::npos);
    }
}

}  // namespace opsrelay::upstream
