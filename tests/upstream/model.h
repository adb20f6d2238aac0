// The workspace behind the API: what an ingest request does to rows, plan and budget, and the
// replies in the documented shapes. Pure: no sockets, no faults.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "upstream/row_table.h"
#include "upstream/settings.h"
#include "upstream/validation.h"

namespace opsrelay::upstream {

/// A status and its JSON body.
struct Answer {
    int status = 200;
    std::string body;
};

/// What happened to ingest requests that reached the workspace.
struct WorkspaceCounts {
    std::uint64_t repeated = 0;            // the id was a row already
    std::uint64_t repeated_different = 0;  // of these: with another body
    std::uint64_t missing_id = 0;          // no usable externalRequestId
    std::uint64_t invalid = 0;
    std::uint64_t plan_blocked = 0;
    std::uint64_t budget_blocked = 0;
    std::uint64_t full = 0;  // our own limit of rows
};

/// Thread: one.
class Workspace {
public:
    Workspace(RowTable::Limits limits, const Behaviour& behaviour)
        : behaviour_(behaviour), rows_(limits) {}

    /// Validation, plan, budget, then storing; in this order (inferred).
    [[nodiscard]] Answer ingest(std::string_view body);
    /// GET workspace-status. `now` fills periods that are not set.
    [[nodiscard]] std::string status_json(WallTime now) const;

    // Replies that faults ask for, too.
    [[nodiscard]] std::string accepted_json() const;
    [[nodiscard]] std::string plan_limit_json() const;
    [[nodiscard]] std::string budget_stop_json(std::string_view reason) const;

    [[nodiscard]] const RowTable& rows() const noexcept { return rows_; }
    [[nodiscard]] const WorkspaceCounts& counts() const noexcept { return counts_; }
    /// Requests counted against the plan, those from before the start included.
    [[nodiscard]] std::int64_t plan_used() const noexcept {
        return behaviour_.plan.used + counted_;
    }
    void clear();

private:
    struct BudgetState {
        bool warning;
        bool exceeded;
    };
    [[nodiscard]] bool plan_reached() const noexcept;
    [[nodiscard]] std::int64_t plan_left() const noexcept;
    [[nodiscard]] double spend(const BudgetWindow& window) const noexcept;
    [[nodiscard]] BudgetState state_of(const BudgetWindow& window) const noexcept;
    [[nodiscard]] BudgetState budget_state() const noexcept;
    [[nodiscard]] bool budget_stops() const noexcept;
    [[nodiscard]] Answer store(const Submission& submission, std::string_view body);
    [[nodiscard]] Answer invalid(const std::vector<FieldError>& errors) const;
    void append_window(std::string& out, std::string_view period, const BudgetWindow& window,
                       WallTime now) const;

    const Behaviour& behaviour_;  // the service's; changes under us
    RowTable rows_;
    WorkspaceCounts counts_;
    std::int64_t counted_ = 0;
    std::uint64_t spent_nano_usd_ = 0;  // by rows, at catalog prices
    std::uint64_t minted_ = 0;          // rows without an id (lenient)
};

/// {"ok":false,"reason":…,"warnings":[]}, the shape of 401 and of replies that have no other.
[[nodiscard]] std::string refusal_json(std::string_view reason);
/// The 429 body, which has two fields more.
[[nodiscard]] std::string throttled_json(std::string_view reason);
/// GET /v1/public/pricing-models; the shape is ours.
[[nodiscard]] std::string pricing_models_json();
/// Catalog price of a call in billionths of a dollar; unknown models cost nothing.
[[nodiscard]] std::uint64_t cost_nano_usd(const Submission& submission) noexcept;

}  // namespace opsrelay::upstream
