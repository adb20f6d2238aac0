// JSON side of faults, for the control endpoint: kept apart so that faults.h needs no RapidJSON.
#pragma once

#include <rapidjson/document.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "upstream/faults.h"

namespace opsrelay::upstream {

/// `path` names the value in errors.
[[nodiscard]] Result<std::vector<Fault>> read_script(const rapidjson::Value& value,
                                                     const std::string& path, Scope scope);
/// {"500_html": 20, "429": {"per_mille": 5, "retry_after": "1"}}
[[nodiscard]] Result<std::vector<Rate>> read_rates(const rapidjson::Value& value,
                                                   const std::string& path, Scope scope);
void append_fault(std::string& out, const Fault& fault);
void append_rates(std::string& out, const std::vector<Rate>& rates);

}  // namespace opsrelay::upstream
