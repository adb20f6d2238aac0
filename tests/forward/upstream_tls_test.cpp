#include <doctest/doctest.h>
#include <openssl/x509.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "forward/http_upstream.h"
#include "forward/trust_store.h"
#include "forward/upstream_world.h"
#include "support/log_capture.h"
#include "support/sim_clock.h"

namespace opsrelay::forward {

namespace {

using test::Served;
using World = test::UpstreamWorld;

Served always(std::size_t, const std::string&) { return test::ok(R"({"ok":true})"); }

void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
}

/// An environment variable, as long as it lives.
struct SetVariable {
    SetVariable(const char* variable, const std::string& value) : name(variable) {
        REQUIRE(::setenv(name, value.c_str(), 1) == 0);
    }
    SetVariable(const SetVariable&) = delete;
    SetVariable& operator=(const SetVariable&) = delete;
    ~SetVariable() { ::unsetenv(name); }
    const char* name;
};

/// What make() says of these files; "" when it takes them.
std::string complaint(const Options& options) {
    asio::io_context io;
    SystemClock clock;
    Resolver resolver(io.get_executor(), clock);
    const auto made = HttpUpstream::make(io.get_executor(), clock, resolver, options);
    if (made) return {};
    CHECK(made.error().code == Errc::config_invalid);
    return made.error().context;
}

}  // namespace

TEST_CASE("forward/upstream_tls: TLS delivers only to a host with a valid, trusted certificate") {
    struct Case {
        const char* name;
        const char* host;
        seconds from;
        seconds to;
        bool trusted;
        Transport transport;
        const char* complaint;
    };
    const Case cases[] = {
        {"good", "localhost", -hours{1}, hours{1}, true, Transport::ok, ""},
        {"self-signed", "localhost", -hours{1}, hours{1}, false, Transport::tls, "self-signed"},
        {"wrong host", "example.org", -hours{1}, hours{1}, true, Transport::tls, "certificate"},
        {"expired", "localhost", -hours{2}, -hours{1}, true, Transport::tls, "expired"},
        {"not yet valid", "localhost", hours{1}, hours{2}, true, Transport::tls, "not yet valid"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world(always, test::make_certificate(test.host, test.from, test.to), test.trusted);
        const auto reply = world.send("{}");
        CAPTURE(reply.error);
        CHECK(reply.transport == test.transport);
        CHECK(reply.error.find(test.complaint) != std::string::npos);
        CHECK(world.server.requests().size() == (test.transport == Transport::ok ? 1U : 0U));
        if (test.transport != Transport::ok) continue;
        CHECK(world.send("{}").status == 200);
        CHECK(world.server.connections() == 1);
    }
}

TEST_CASE("forward/upstream_tls: a plain server behind https is a TLS failure") {
    World world([](std::size_t, const std::string&) { return Served{"x", true}; });
    world.connect(fmt::format("https://127.0.0.1:{}", world.server.port()));
    CHECK(world.send("{}", milliseconds{200}).transport != Transport::ok);
    CHECK(world.server.requests().empty());
}

TEST_CASE("forward/upstream_tls: files that cannot be used are named with the next step") {
    const test::TempDir dir;
    const auto one = test::make_certificate("one", -hours{1}, hours{1});
    const auto two = test::make_certificate("two", -hours{1}, hours{1});
    const auto cert = dir / "cert.pem";
    const auto key = dir / "key.pem";
    const auto other = dir / "other.pem";
    const auto garbage = dir / "garbage.pem";
    const auto locked = dir / "locked.pem";
    write(cert, one.certificate_pem);
    write(key, one.key_pem);
    write(other, two.key_pem);
    write(garbage, "nothing");
    // What OpenSSL would ask a passphrase for.
    write(locked,
          "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
          "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBAAAAAAAAAAAAAAAAAA\n"
          "-----END ENCRYPTED PRIVATE KEY-----\n");
    struct Case {
        const char* name;
        std::string ca;
        std::string cert;
        std::string key;
        const char* complaint;  // "": taken
    };
    const Case cases[] = {
        {"none", "", "", "", ""},
        {"all", cert, cert, key, ""},
        {"no CA file", "/nonexistent/ca.pem", "", "", "upstream.ca_file: \"/nonexistent/ca.pem\""},
        {"a CA file without certificates", garbage, "", "", "upstream.ca_file: "},
        {"no certificate", "", "", key, "belong together"},
        {"no key", "", cert, "", "belong together"},
        {"a missing certificate", "", "/nonexistent/c.pem", key, "upstream.client_cert_file: "},
        {"a certificate that is none", "", garbage, key, "upstream.client_cert_file: "},
        {"a missing key", "", cert, "/nonexistent/k.pem", "upstream.client_key_file: "},
        {"a key that is none", "", cert, cert, "without a passphrase"},
        {"a key with a passphrase", "", cert, locked, "without a passphrase"},
        {"another's key", "", cert, other, "key values mismatch"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        Options options;
        options.ca_file = test.ca;
        options.client_cert_file = test.cert;
        options.client_key_file = test.key;
        const auto said = complaint(options);
        CAPTURE(said);
        CHECK(said.find(test.complaint) != std::string::npos);
        CHECK(said.empty() == (*test.complaint == '\0'));
    }
}

TEST_CASE("forward/upstream_tls: a server that wants a certificate gets ours, and the next one") {
    const opsrelay::test::LogCapture log;
    const auto server = test::make_certificate("localhost", -hours{1}, hours{1});
    const auto good = test::make_certificate("client", -hours{1}, hours{1});
    const auto bad = test::make_certificate("stranger", -hours{1}, hours{1});
    World world(always, server, true, good.certificate_pem);
    world.options.client_cert_file = world.dir / "client.pem";
    world.options.client_key_file = world.dir / "client.key";
    const auto issue = [&](const test::Certificate& identity) {
        write(world.options.client_cert_file, identity.certificate_pem);
        write(world.options.client_key_file, identity.key_pem);
    };
    CHECK(world.send("{}").transport != Transport::ok);  // as nobody
    issue(bad);
    world.connect(world.options.url);
    CHECK(world.send("{}").transport != Transport::ok);
    CHECK(world.server.requests().empty());

    issue(good);
    CHECK(world.send("{}").status == 200);  // who connects looks
    CHECK(world.upstream->idle_connections() == 1);
    CHECK(log.count("certificates read again") == 1);

    // Half of a change is not used; what was read last is.
    write(world.options.client_cert_file, bad.certificate_pem);
    world.upstream->tend_connections(false);
    world.upstream->tend_connections(false);
    CHECK(log.count("certificates cannot be used") == 1);
    CHECK(world.upstream->idle_connections() == 1);
    world.upstream->tend_connections(true);
    CHECK(world.send("{}").status == 200);

    issue(good);
    world.upstream->tend_connections(false);
    CHECK(world.upstream->idle_connections() == 0);  // those made with the old one end
    CHECK(world.send("{}").status == 200);
    CHECK(log.count("PRIVATE KEY") == 0);
}

TEST_CASE("forward/upstream_tls: the system's certificates are read again when they change") {
    const opsrelay::test::LogCapture log;
    const auto server = test::make_certificate("localhost", -hours{1}, hours{1});
    const auto other = test::make_certificate("localhost", -hours{1}, hours{1});
    const test::TempDir dir;
    const auto file = dir / "ca-certificates.crt";
    write(file, other.certificate_pem);
    const SetVariable system("SSL_CERT_FILE", file);  // OpenSSL reads it itself
    World world(always, server, false);
    world.options.system_ca_file = file;
    world.connect(world.options.url);
    CHECK(world.send("{}").transport == Transport::tls);
    write(file, server.certificate_pem);
    world.upstream->tend_connections(false);
    CHECK(world.send("{}").status == 200);
}

TEST_CASE("forward/trust_store: whoever trusts the same shares it, and nobody keeps it alive") {
    const auto one = test::make_certificate("one", -hours{1}, hours{1});
    const test::TempDir dir;
    const auto file = dir / "ca.pem";
    write(file, one.certificate_pem);
    const auto system = stamp_of(X509_get_default_cert_file());
    const auto stamp = stamp_of(file);
    auto first = trust_store(file, system, stamp).value();
    CHECK(trust_store(file, system, stamp).value() == first);
    CHECK(trust_store("", system, {}).value() != first);
    CHECK(trust_store(file, {}, stamp).value() != first);
    write(file, one.certificate_pem + one.certificate_pem);
    CHECK(trust_store(file, system, stamp_of(file)).value() != first);
    const std::weak_ptr<X509_STORE> known = first;
    first.reset();
    CHECK(known.expired());
    CHECK(trust_store(dir / "none.pem", system, {}).has_error());
    CHECK(trust_store(dir / "none.pem", system, {}).has_error());  // an error is not remembered
}

TEST_CASE("forward/upstream_tls: a CA file that changed is trusted from then on") {
    const opsrelay::test::LogCapture log;
    const auto server = test::make_certificate("localhost", -hours{1}, hours{1});
    const auto other = test::make_certificate("localhost", -hours{1}, hours{1});
    World world(always, server, false);
    world.options.ca_file = world.dir / "trusted.pem";
    write(world.options.ca_file, other.certificate_pem);
    world.connect(world.options.url);
    CHECK(world.send("{}").transport == Transport::tls);
    // As Kubernetes does it: a link to another directory.
    std::filesystem::create_directory(world.dir / "new");
    write(world.dir / "new/trusted.pem", server.certificate_pem);
    std::filesystem::remove(world.options.ca_file);
    std::filesystem::create_symlink(world.dir / "new/trusted.pem", world.options.ca_file);
    world.upstream->tend_connections(false);
    CHECK(world.send("{}").status == 200);
}

}  // namespace opsrelay::forward
