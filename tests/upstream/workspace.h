// The workspace behind the API: what a request does to rows, plan and budget. Pure: no sockets, no
// faults, no JSON of replies (replies.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "upstream/row_table.h"
#include "upstream/settings.h"
#include "upstream/usage.h"
#include "upstream/validation.h"

namespace opsrelay::upstream {

/// What happened to ingest requests, and items of batches, that reached the workspace.
struct WorkspaceCounts {
    std::uint64_t repeated = 0;            // the id was a row already
    std::uint64_t repeated_different = 0;  // of these: with another body
    std::uint64_t missing_id = 0;          // no usable externalRequestId
    std::uint64_t invalid = 0;
    std::uint64_t plan_blocked = 0;
    std::uint64_t budget_blocked = 0;
    std::uint64_t full = 0;  // our own limit of rows
};

/// How one request, or one item of a batch, ended.
enum class Verdict : std::uint8_t { stored, repeated, invalid, plan_limit, budget_stop, full };
struct Outcome {
    Verdict verdict = Verdict::stored;
    std::vector<FieldError> errors;  // of `invalid`
};

/// Plan and budget at one moment.
struct WindowState {
    double spend_usd = 0;
    bool warning = false;
    bool exceeded = false;
};
struct PlanAndBudget {
    std::int64_t limit = 0;  // 0: none
    std::int64_t used = 0;
    std::int64_t left = 0;
    bool plan_reached = false;
    WindowState daily;
    WindowState monthly;
    bool warning = false;   // either window, or a budget that always stops
    bool exceeded = false;  // as warning
};

/// Thread: one.
class Workspace {
public:
    Workspace(RowTable::Limits limits, const Behaviour& behaviour)
        : behaviour_(behaviour), rows_(limits) {}

    /// Validation, plan, budget, then storing; in this order (inferred).
    [[nodiscard]] Outcome take(std::string_view body, WallTime now);
    /// Rows that the service makes itself, of dataMode demo.
    [[nodiscard]] Outcome make_demo_row(WallTime now);
    std::size_t remove(DataMode mode) { return rows_.remove(mode); }
    [[nodiscard]] PlanAndBudget state(WallTime now) const;

    [[nodiscard]] const RowTable& rows() const noexcept { return rows_; }
    [[nodiscard]] const WorkspaceCounts& counts() const noexcept { return counts_; }
    void clear();

private:
    [[nodiscard]] Outcome decide(const Submission& submission, std::string_view body, WallTime now);
    [[nodiscard]] Verdict store(const Submission& submission, std::string_view body, Day day);
    [[nodiscard]] Outcome block(Verdict verdict, bool stored, const Submission& submission,
                                std::string_view body, Day day);
    [[nodiscard]] WindowState state_of(const BudgetWindow& window, std::uint64_t nano_usd) const;
    /// The day a row is booked on.
    [[nodiscard]] Day booked_on(const Submission& submission, WallTime now) const;
    /// What a request counts against the plan: 1, or 0 for rows that are not real.
    [[nodiscard]] std::int64_t plan_share(DataMode mode) const;
    [[nodiscard]] std::uint64_t cost_nano_usd(const Submission& submission) const;

    const Behaviour& behaviour_;  // the service's; changes under us
    RowTable rows_;
    Usage usage_;
    WorkspaceCounts counts_;
    std::uint64_t minted_ = 0;  // rows without an id (lenient), and demo rows
};

}  // namespace opsrelay::upstream
