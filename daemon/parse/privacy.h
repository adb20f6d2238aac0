// The privacy step: what must never reach the disk, neither in an event nor in a dead letter.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "parse/options.h"
#include "parse/outline.h"
#include "parse/patch.h"
#include "parse/pseudonym.h"
#include "parse/repair.h"

namespace opsrelay::parse {

/// Carries out the rules of Privacy. Not thread-safe.
class PrivacyStep {
public:
    explicit PrivacyStep(const Privacy& rules);

    /// What the reader must look for.
    [[nodiscard]] const Guard& guard() const noexcept { return guard_; }
    [[nodiscard]] IdentityRule rule(Who who) const noexcept {
        return who == Who::user ? user_id_ : tenant_id_;
    }

    /// Adds the edits of kind `privacy` that the event needs, and what there is to count.
    void protect(std::string_view text, const Outline& outline, Patch& patch, RepairSet& repairs);

    /// The name under which an identity is sent; its rule is not `drop`. An empty text says nothing
    /// and a pseudonym is one already: they stay. The view lives until the next call.
    [[nodiscard]] std::string_view name_of(Who who, std::string_view identity);

private:
    void protect(std::string_view text, const Identity& identity, Patch& patch, RepairSet& repairs);

    const IdentityRule user_id_;
    const IdentityRule tenant_id_;
    const Guard guard_;
    std::optional<Pseudonymizer> pseudonymizer_;
    std::string value_;
    Pseudonym pseudonym_;
};

}  // namespace opsrelay::parse
