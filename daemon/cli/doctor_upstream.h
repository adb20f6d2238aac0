// What `doctor` makes of an attempt to reach an upstream. Pure.
#pragma once

#include <string>

#include "cli/doctor_report.h"
#include "cli/upstream_report.h"
#include "config/config.h"

namespace opsrelay::cli {

/// The checks upstream.key, .proxy (if there is one), .resolve, .connect, .certificate, .answer and
/// .clock of one lane, as far as the attempt came. `now_unix_ms`: for the certificate's end.
[[nodiscard]] Findings judge_upstream(const std::string& lane, const forward::Options& options,
                                      const UpstreamReport& report, std::int64_t now_unix_ms);

}  // namespace opsrelay::cli
