// What the event contract lets an operator choose.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/units.h"
#include "parse/rules.h"

namespace opsrelay::parse {

enum class MissingId : std::uint8_t {
    mint,   // default: a UUIDv7, counted; a re-send is then a second event
    reject  // missing_id
};

/// What becomes of userId or tenantId, also inside metadata.
enum class IdentityRule : std::uint8_t {
    pass,  // default: sent as it is; one that looks personal is counted
    hash,  // a pseudonym made with Privacy::hash_key
    drop   // removed
};

/// Secret key of the pseudonyms, in bytes.
inline constexpr std::size_t kHashKeyBytesMin = 16;
inline constexpr std::size_t kHashKeyBytesMax = 4096;

struct Privacy {
    /// Keys whose strings, arrays and objects are removed at any depth; case does not matter. None
    /// is the name of a field with a rule.
    std::vector<std::string> deny_fields{"prompt",     "messages", "input",   "output",
                                         "completion", "response", "content", "text"};
    IdentityRule user_id = IdentityRule::pass;
    IdentityRule tenant_id = IdentityRule::pass;
    /// From kHashKeyBytesMin to kHashKeyBytesMax when a rule is `hash`. Never shown.
    std::string hash_key{};
};

/// Fields that a listener may fill in when an event lacks them. Not those that name or price the
/// call (id, provider, model, counts, status), nor userId, which is no property of a listener.
inline constexpr std::array<Field, 6> kDefaultFields{Field::data_mode,    Field::environment,
                                                     Field::endpoint_tag, Field::prompt_version,
                                                     Field::tenant_id,    Field::feature_tag};

/// A field of kDefaultFields and its value: 1 to kTextBytesMax bytes of UTF-8 without control
/// characters, for dataMode and environment one of their names.
struct Default {
    Field field = Field::environment;
    std::string value;
};
using Defaults = std::vector<Default>;

struct Options {
    MissingId missing_id = MissingId::mint;
    bool stamp_created_at = true;  // insert createdAt (receive time) when absent
    bool lift_tenant = true;       // copy metadata.tenantId to tenantId when that is absent
    /// Model name to the name that is sent. No value is a key, so that one look-up is enough.
    std::map<std::string, std::string, std::less<>> model_aliases{};
    Privacy privacy{};
    /// One entry for each listener that has defaults; Origin::defaults counts from 1. No tenantId
    /// when privacy.tenant_id is `drop`.
    std::vector<Defaults> defaults{};
    Bytes event_bytes_max{64U << 10U};
    unsigned depth_max = 16;  // nesting of arrays and objects, the event itself is 1
};

}  // namespace opsrelay::parse
