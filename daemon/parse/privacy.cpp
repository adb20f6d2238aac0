#include "parse/privacy.h"

namespace opsrelay::parse {

PrivacyStep::PrivacyStep(const Privacy& rules)
    : user_id_(rules.user_id),
      tenant_id_(rules.tenant_id),
      guard_{KeySet(rules.deny_fields), rules.user_id != IdentityRule::pass,
             rules.tenant_id != IdentityRule::pass} {
    if (user_id_ == IdentityRule::hash || tenant_id_ == IdentityRule::hash) {
        pseudonymizer_.emplace(rules.hash_key);
    }
}

void PrivacyStep::protect(std::string_view text, const Outline& outline, Patch& patch,
                          RepairSet& repairs) {
    for (const auto& value : outline.denied()) {
        patch.remove(value.key_begin, end_of(text, value), EditKind::privacy);
        repairs |= bit(Repair::denied_removed);
    }
    for (const auto& identity : outline.identities()) protect(text, identity, patch, repairs);
}

void PrivacyStep::protect(std::string_view text, const Identity& identity, Patch& patch,
                          RepairSet& repairs) {
    const auto& value = identity.value;
    switch (rule(identity.who)) {
        case IdentityRule::pass:
            if (value.kind == ValueKind::string && looks_personal(value.text)) {
                repairs |= bit(Repair::identity_personal);
            }
            return;
        case IdentityRule::hash: {
            if (value.kind == ValueKind::boolean) return;  // names nobody
            const auto name = name_of(identity.who, value.text);
            if (value.kind == ValueKind::string && name == value.text) return;
            value_.assign("\"").append(name).push_back('"');
            patch.replace(value.begin, end_of(text, value), {value_}, EditKind::privacy);
            repairs |= bit(Repair::identity_hashed);
            return;
        }
        case IdentityRule::drop:
            patch.remove(value.key_begin, end_of(text, value), EditKind::privacy);
            repairs |= bit(Repair::identity_dropped);
            return;
    }
}

std::string_view PrivacyStep::name_of(Who who, std::string_view identity) {
    if (rule(who) != IdentityRule::hash || identity.empty() || is_pseudonym(identity)) {
        return identity;
    }
    pseudonym_ = pseudonymizer_->name(identity);
    return pseudonym_.text();
}

}  // namespace opsrelay::parse
