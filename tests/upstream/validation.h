// Whether an ingest body is a request the API accepts. The documented rules are few (README.md),
// the rest follows the documented field table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace opsrelay::upstream {

struct FieldError {
    std::string field;
    std::string message;
};

/// The fields the emulator uses; the row keeps the whole body.
struct Submission {
    std::string id;  // empty: absent, only possible when lenient
    std::string provider;
    std::string model;
    std::uint32_t input_tokens = 0;
    std::uint32_t output_tokens = 0;
};

struct Checked {
    Submission submission;
    bool missing_id = false;         // no usable externalRequestId
    std::vector<FieldError> errors;  // empty: valid
};

/// `lenient`: only status is required; what is present still needs its type.
[[nodiscard]] Checked check_request(std::string_view body, bool lenient);

}  // namespace opsrelay::upstream
