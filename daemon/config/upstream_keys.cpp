#include "config/upstream_keys.h"

#include <fmt/format.h>

#include <array>

#include "config/assign.h"
#include "config/fields.h"
#include "config/upstream_proxy.h"

namespace opsrelay::config {

namespace {

using forward::Options;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""min;
using View = std::string_view;

enum class UpstreamKind : std::uint8_t { opsmeter };
constexpr std::array<EnumName<UpstreamKind>, 1> kUpstreamKinds{{
    {UpstreamKind::opsmeter, "opsmeter"},
}};
static_assert(dense(kUpstreamKinds));

constexpr bool kNullable = true;
constexpr bool kQuoted = true;

const std::array kKeys{
    UpstreamKey{"upstream.kind", false, false,
                [](Options&, View key, View text) -> Result<void> {
                    const auto kind = enum_field(key, text, kUpstreamKinds);
                    if (!kind) return kind.error();
                    return {};
                },
                [](const Options&) { return std::string(kUpstreamKinds.front().name); }},
    UpstreamKey{"upstream.url", false, kQuoted,
                [](Options& o, View key, View text) { return assign(o.url, url_field(key, text)); },
                [](const Options& o) { return o.url; }},
    UpstreamKey{
        "upstream.path", false, kQuoted,
        [](Options& o, View key, View text) { return assign(o.path, url_path_field(key, text)); },
        [](const Options& o) { return o.path; }},
    UpstreamKey{
        "upstream.api_key_file", kNullable, kQuoted,
        [](Options& o, View key, View text) { return assign_file(o.api_key_file, key, text); },
        [](const Options& o) { return o.api_key_file; }},
    UpstreamKey{"upstream.ca_file", kNullable, kQuoted,
                [](Options& o, View key, View text) { return assign_file(o.ca_file, key, text); },
                [](const Options& o) { return o.ca_file; }},
    UpstreamKey{
        "upstream.client_cert_file", kNullable, kQuoted,
        [](Options& o, View key, View text) { return assign_file(o.client_cert_file, key, text); },
        [](const Options& o) { return o.client_cert_file; }},
    UpstreamKey{
        "upstream.client_key_file", kNullable, kQuoted,
        [](Options& o, View key, View text) { return assign_file(o.client_key_file, key, text); },
        [](const Options& o) { return o.client_key_file; }},
    UpstreamKey{"upstream.proxy", kNullable, kQuoted, assign_proxy, show_upstream_proxy},
    UpstreamKey{"upstream.allow_plaintext", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.allow_plaintext, bool_field(key, text));
                },
                [](const Options& o) { return yes_no(o.allow_plaintext); }},
    UpstreamKey{"upstream.connections", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.connections, count_field(key, text, {1, 64}));
                },
                [](const Options& o) { return fmt::format("{}", o.connections); }},
    UpstreamKey{"upstream.timeout", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.timeout, duration_field(key, text, {100ms, 5min}));
                },
                [](const Options& o) { return format_duration(o.timeout); }},
};

}  // namespace

std::span<const UpstreamKey> upstream_keys() { return kKeys; }

}  // namespace opsrelay::config
