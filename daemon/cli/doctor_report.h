// What `doctor` found, as text and as JSON.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/paint.h"
#include "core/enum_table.h"

namespace opsrelay::cli {

enum class Health : std::uint8_t { ok, warn, fail };
inline constexpr std::array<EnumName<Health>, 3> kHealths{{
    {Health::ok, "ok"},
    {Health::warn, "warn"},  // works, with a cost that the finding names
    {Health::fail, "fail"},  // something does not work
}};
static_assert(dense(kHealths));
constexpr std::string_view to_string(Health h) { return kHealths.at(index_of(h)).name; }

/// One check.
struct Finding {
    std::string check;  // a stable name, "spool.sync"
    std::string lane;   // whose upstream it is about; "": none
    Health health = Health::ok;
    std::string detail;  // the thing and its value; no secrets
    std::string remedy;  // what to do; "" when ok
};
using Findings = std::vector<Finding>;

[[nodiscard]] bool any_failed(const Findings& findings);
/// A line a check, its remedy below it, and a last line that counts.
[[nodiscard]] std::string findings_text(const Findings& findings, const Paint& paint = {});
/// `{"ok":true,"checks":[{"check":..,"lane":..,"result":"ok","detail":..,"remedy":..}]}`; what is
/// absent is null.
[[nodiscard]] std::string findings_json(const Findings& findings);

}  // namespace opsrelay::cli
