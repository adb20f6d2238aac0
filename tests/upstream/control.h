// POST and GET /control: switches and commands as JSON.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "upstream/calendar.h"
#include "upstream/faults.h"
#include "upstream/settings.h"

namespace opsrelay::upstream {

/// A key of POST /control that is not a switch: it acts, and no later answer gives it back as such.
struct Command {
    std::string_view key;
    std::string_view allowed;
    std::string_view meaning;
};
[[nodiscard]] std::span<const Command> commands();

/// What one POST /control asks for.
struct ControlChange {
    Behaviour behaviour;  // the whole new one
    std::optional<std::vector<Fault>> script;
    std::optional<std::vector<Rate>> rates;
    std::optional<std::vector<Fault>> item_script;
    std::optional<std::vector<Rate>> item_rates;
    std::optional<std::uint64_t> seed;
};
/// All or nothing. The clock is set first: what was given for a day or month that is over then is
/// forgotten before the other keys are read. `real_now`: what the emulator's clock is set against.
/// Errors name the key, the value and what is allowed.
[[nodiscard]] Result<ControlChange> parse_control(std::string_view json, const Behaviour& current,
                                                  WallTime real_now);
/// What was given for a day or a month (spend, use, texts of periods) ends with it.
void roll_over(Behaviour& behaviour, Day from, Day to);
/// The answer of /control: every switch, the rates and what is left of the scripts.
[[nodiscard]] std::string control_json(const Behaviour& behaviour, const FaultPlan& faults,
                                       const FaultPlan& item_faults);

}  // namespace opsrelay::upstream
