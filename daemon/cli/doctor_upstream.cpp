#include "cli/doctor_upstream.h"

#include <fmt/format.h>

#include <cstdlib>

#include "config/lanes.h"

namespace opsrelay::cli {

namespace {

constexpr milliseconds kSlowLookup{1000};
constexpr std::int64_t kDayMs = 24LL * 3'600 * 1000;
constexpr std::int64_t kExpiresSoonMs = 14 * kDayMs;
constexpr std::int64_t kSkewWarnMs = 5'000;
constexpr std::int64_t kSkewFailMs = 5LL * 60 * 1000;

class Judge {
public:
    Judge(const std::string& lane, const forward::Options& options, const UpstreamReport& report,
          std::int64_t now_unix_ms)
        : lane_(lane), options_(options), report_(report), now_(now_unix_ms) {}

    Findings all() {
        key();
        if (!report_.unusable.empty()) {
            add("connect", Health::fail, report_.unusable,
                "correct the key of the configuration that is named");
            return std::move(found_);
        }
        proxy();
        if (resolve()) connect();
        if (report_.certificate_end_unix_ms) certificate(*report_.certificate_end_unix_ms);
        if (report_.asked) answer();
        if (report_.date_unix_ms) skew(report_.replied_unix_ms - *report_.date_unix_ms);
        return std::move(found_);
    }

private:
    void add(const char* check, Health health, std::string detail, std::string remedy = {}) {
        found_.push_back({fmt::format("upstream.{}", check), lane_, health, std::move(detail),
                          std::move(remedy)});
    }

    void key() {
        const auto name = config::lane_key(lane_, "api_key_file");
        const auto& file = options_.api_key_file;
        switch (report_.key) {
            case UpstreamReport::Key::read:
                return add("key", Health::ok,
                           file.empty() ? "from OPSRELAY_API_KEY" : fmt::format("read {}", file));
            case UpstreamReport::Key::unreadable:
                return add("key", Health::fail, report_.key_error,
                           fmt::format("put the key into the file of {}, readable by the "
                                       "daemon's user; until then events are spooled",
                                       name));
            case UpstreamReport::Key::none:
                return add("key", Health::warn, "there is no API key: nothing is sent",
                           fmt::format("name a file with the key in {}, or in "
                                       "OPSRELAY_API_KEY_FILE",
                                       name));
        }
    }

    void proxy() {
        if (options_.proxy) {
            add("proxy", Health::ok, fmt::format("through {}", show_proxy(*options_.proxy)));
        }
    }

    // False: there is nothing to connect to.
    bool resolve() {
        if (report_.host.empty()) return true;
        if (!report_.resolve_error.empty()) {
            add("resolve", Health::fail, report_.resolve_error,
                "check the name in the configuration, /etc/resolv.conf and the name server");
            return false;
        }
        const auto detail =
            fmt::format("{} has {} address{}, after {} ms", report_.host, report_.addresses.size(),
                        report_.addresses.size() == 1 ? "" : "es", report_.resolve_time.count());
        const bool slow = report_.resolve_time > kSlowLookup;
        add("resolve", slow ? Health::warn : Health::ok, detail,
            slow ? "every new connection waits for it: check /etc/resolv.conf and the name server"
                 : "");
        return true;
    }

    void connect() {
        if (report_.connected) {
            return add("connect", Health::ok,
                       fmt::format("{} at {}{}, after {} ms", options_.url, report_.address,
                                   report_.tls ? " over TLS" : "", report_.connect_time.count()));
        }
        const bool tls = report_.connect_error.starts_with("tls");
        add("connect", Health::fail, fmt::format("{}: {}", options_.url, report_.connect_error),
            tls ? fmt::format("a certificate of your own authority needs {}; an expired or "
                              "wrong one must be replaced by whoever runs the upstream",
                              config::lane_key(lane_, "ca_file"))
                : "check that it runs, and that firewall and proxy let it through");
    }

    void certificate(std::int64_t end_ms) {
        const auto left = end_ms - now_;
        const auto detail = fmt::format("valid for {} days more, issued by {}", left / kDayMs,
                                        report_.certificate_issuer);
        const bool soon = left < kExpiresSoonMs;
        add("certificate", soon ? Health::warn : Health::ok, detail,
            soon ? "it must be renewed before then, or nothing is delivered" : "");
    }

    void answer() {
        const auto path = options_.status_path;
        if (report_.status == 0) {
            return add("answer", Health::fail, fmt::format("{}: {}", path, report_.ask_error),
                       "check that an Opsmeter API, or a relay, is behind the URL");
        }
        const auto detail = fmt::format("{}: HTTP {} ({}), after {} ms", path, report_.status,
                                        report_.verdict, report_.reply_time.count());
        if (report_.status == 200 && report_.readable) return workspace(detail);
        if (report_.status == 200) {
            return add("answer", Health::fail, detail + ", but that is not the API's answer",
                       "check the URL: something else answers there");
        }
        if (report_.status == 401 || report_.status == 403) {
            return add("answer", Health::fail, detail,
                       fmt::format("the key was refused: put a valid one into the file of {}",
                                   config::lane_key(lane_, "api_key_file")));
        }
        if (report_.verdict == "backoff" || report_.verdict == "throttled") {
            return add("answer", Health::warn, detail,
                       "upstream is in trouble; events are spooled and sent again");
        }
        if (report_.verdict == "plan_limited" || report_.verdict == "budget_stopped") {
            return add("answer", Health::warn, detail,
                       "the plan or a budget is used up; events are spooled until it is not");
        }
        // Not every taker of batches has this path.
        const bool batch = options_.kind == forward::UpstreamKind::batch;
        add("answer", batch ? Health::warn : Health::fail, detail,
            fmt::format("check {}: the API is not there", config::lane_key(lane_, "url")));
    }

    void workspace(const std::string& detail) {
        if (report_.paused) {
            return add("answer", Health::warn, detail + "; the plan's limit is reached",
                       "events are spooled until the plan's next period or a larger plan");
        }
        if (report_.over_budget) {
            return add("answer", Health::warn, detail + "; a budget is exceeded",
                       "see the budgets of the workspace");
        }
        add("answer", Health::ok, detail);
    }

    void skew(std::int64_t ahead_ms) {
        const auto size = std::abs(ahead_ms);
        const auto detail =
            fmt::format("this clock is {:.1f} s {} upstream's", static_cast<double>(size) / 1000,
                        ahead_ms < 0 ? "behind" : "ahead of");
        if (size <= kSkewWarnMs) return add("clock", Health::ok, detail);
        add("clock", size > kSkewFailMs ? Health::fail : Health::warn, detail,
            "set the clock (timedatectl, chrony): events are stamped with it, and count for its "
            "day");
    }

    const std::string& lane_;
    const forward::Options& options_;
    const UpstreamReport& report_;
    const std::int64_t now_;
    Findings found_;
};

}  // namespace

Findings judge_upstream(const std::string& lane, const forward::Options& options,
                        const UpstreamReport& report, std::int64_t now_unix_ms) {
    return Judge(lane, options, report, now_unix_ms).all();
}

}  // namespace opsrelay::cli
