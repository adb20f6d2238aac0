#include "cli/watch.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <utility>

#include "cli/json_fields.h"

namespace opsrelay::cli {

std::optional<Rates> RateMeter::look(std::string_view status_json, TimePoint at) {
    rapidjson::Document status;
    status.Parse(status_json.data(), status_json.size());
    const rapidjson::Value* ledger = nullptr;
    if (!status.HasParseError() && status.IsObject()) ledger = member(status, "ledger");
    if (ledger == nullptr) {
        forget();
        return std::nullopt;
    }
    const Look now{count(*ledger, "received"), count(*ledger, "delivered"), at};
    const auto before = std::exchange(last_, now);
    // Counters are of one process: smaller ones are another's.
    if (!before || now.received < before->received || now.delivered < before->delivered) {
        return std::nullopt;
    }
    const auto passed = std::chrono::duration<double>(at - before->at).count();
    if (passed <= 0) return std::nullopt;
    return Rates{static_cast<double>(now.received - before->received) / passed,
                 static_cast<double>(now.delivered - before->delivered) / passed};
}

std::string rates_text(const std::optional<Rates>& rates) {
    if (!rates) return "received -, delivered -";
    return fmt::format("received {:.1f}/s, delivered {:.1f}/s", rates->received, rates->delivered);
}

std::string rates_json(const std::optional<Rates>& rates) {
    if (!rates) return "null";
    return fmt::format(R"({{"received_per_s":{:.1f},"delivered_per_s":{:.1f}}})", rates->received,
                       rates->delivered);
}

}  // namespace opsrelay::cli
