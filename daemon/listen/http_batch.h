// Bodies of POST /v1/ingest/batch, and the reply to them (proto/README.md). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "listen/http_rules.h"
#include "listen/inlet.h"

namespace opsrelay::listen {

/// Events of one request; more are refused with 413.
inline constexpr std::size_t kBatchEventsMax = 10'000;

enum class BatchForm : std::uint8_t { array, ndjson };
/// By Content-Type: application/json, or application/x-ndjson and its other names. nullopt: 415.
[[nodiscard]] std::optional<BatchForm> batch_form(std::string_view content_type) noexcept;

/// The events in a body, as views into it: the lines that are not empty, or the items of a JSON
/// array; one JSON object stands for an array of one. At most kBatchEventsMax + 1. What is in an
/// item is not looked at. nullopt: not an array, and complaint_about_array() says why.
[[nodiscard]] std::optional<std::vector<std::string_view>> split_batch(BatchForm form,
                                                                       std::string_view body);
[[nodiscard]] std::string complaint_about_array(std::string_view body);

struct BatchResult {
    int status = 200;         // what the event would have got by itself
    std::string_view reason;  // empty: null
};
/// Of an event that waits for its commit: 200.
[[nodiscard]] BatchResult result_of(const Offered& offered) noexcept;
/// `settled` holds for every result of 200.
[[nodiscard]] HttpReply batch_reply(std::span<const BatchResult> results, Settled settled);

}  // namespace opsrelay::listen
