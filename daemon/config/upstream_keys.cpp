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

constexpr bool kNullable = true;
constexpr bool kQuoted = true;

const std::array kKeys{
    UpstreamKey{"upstream.kind", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.kind, enum_field(key, text, forward::kUpstreamKinds));
                },
                [](const Options& o) {
                    return std::string(forward::kUpstreamKinds.at(index_of(o.kind)).name);
                }},
    UpstreamKey{"upstream.url", false, kQuoted,
                [](Options& o, View key, View text) { return assign(o.url, url_field(key, text)); },
                [](const Options& o) { return o.url; }},
    UpstreamKey{
        "upstream.path", false, kQuoted,
        [](Options& o, View key, View text) { return assign(o.path, url_path_field(key, text)); },
        [](const Options& o) { return std::string(o.target_path()); }},
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
    UpstreamKey{"upstream.pipeline", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.pipeline, count_field(key, text, {1, 16}));
                },
                [](const Options& o) { return fmt::format("{}", o.pipeline); }},
    UpstreamKey{"upstream.concurrency", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.concurrency, enum_field(key, text, forward::kConcurrencyModes));
                },
                [](const Options& o) {
                    return std::string(forward::kConcurrencyModes.at(index_of(o.concurrency)).name);
                }},
    UpstreamKey{"upstream.timeout", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.timeout, duration_field(key, text, {100ms, 5min}));
                },
                [](const Options& o) { return format_duration(o.timeout); }},
    UpstreamKey{"upstream.batch_max_events", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.batch.events_max, count_field(key, text, {1, 1000}));
                },
                [](const Options& o) { return fmt::format("{}", o.batch.events_max); }},
    UpstreamKey{"upstream.batch_max_bytes", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.batch.bytes_max, bytes_field(key, text, {64_KiB, 8_MiB}));
                },
                [](const Options& o) { return format_bytes(o.batch.bytes_max); }},
    UpstreamKey{"upstream.batch_linger", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.batch.linger, duration_field(key, text, {0ms, 1min}));
                },
                [](const Options& o) { return format_duration(o.batch.linger); }},
    UpstreamKey{"upstream.batch_format", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.batch.format, enum_field(key, text, forward::kBatchFormats));
                },
                [](const Options& o) {
                    return std::string(forward::kBatchFormats.at(index_of(o.batch.format)).name);
                }},
    UpstreamKey{"upstream.batch_compression", false, false,
                [](Options& o, View key, View text) {
                    return assign(o.batch.coding, enum_field(key, text, forward::kBatchCodings));
                },
                [](const Options& o) {
                    return std::string(forward::kBatchCodings.at(index_of(o.batch.coding)).name);
                }},
};

}  // namespace

std::span<const UpstreamKey> upstream_keys() { return kKeys; }

}  // namespace opsrelay::config
