// Whether an ingest body is a request the API accepts. The documented rules are few (README.md),
// the rest follows the documented field table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "upstream/row_table.h"

namespace opsrelay::upstream {

struct FieldError {
    std::string field;
    std::string message;
};

/// Which requests are valid, as far as that is a switch.
struct Rules {
    bool lenient = false;  // only status is required; what is present still needs its type
    bool reject_unknown_fields = false;
    std::size_t id_bytes_max = 0;  // 0: any
    bool read_created_at = false;
};

/// The fields the emulator uses; the row keeps the whole body.
struct Submission {
    std::string id;  // empty: absent, only possible when lenient
    std::string provider;
    std::string model;
    std::uint32_t input_tokens = 0;
    std::uint32_t output_tokens = 0;
    DataMode mode = DataMode::real;
    std::optional<WallTime> created_at;  // only when the rules want it, and it is a time
};

struct Checked {
    Submission submission;
    bool missing_id = false;         // no usable externalRequestId
    std::vector<FieldError> errors;  // empty: valid
};

[[nodiscard]] Checked check_request(std::string_view body, const Rules& rules);

}  // namespace opsrelay::upstream
