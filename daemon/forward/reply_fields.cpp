#include "forward/reply_fields.h"

#include <rapidjson/document.h>

#include <array>
#include <cstddef>
#include <utility>

namespace opsrelay::forward {

namespace {

constexpr int kScanDepthMax = 4;  // values within values; deeper is left to RapidJSON
constexpr std::size_t kScanDigitsMax = 15;

struct Flag {
    std::string_view name;
    std::optional<bool> ReplyFields::*field;
};
constexpr std::array<Flag, 5> kFlags{{
    {"ok", &ReplyFields::ok},
    {"telemetryPaused", &ReplyFields::telemetry_paused},
    {"isPlanLimitReached", &ReplyFields::plan_limit_reached},
    {"budgetWarning", &ReplyFields::budget_warning},
    {"budgetExceeded", &ReplyFields::budget_exceeded},
}};
struct Text {
    std::string_view name;
    std::optional<std::string> ReplyFields::*field;
};
constexpr std::array<Text, 2> kTexts{{
    {"reason", &ReplyFields::reason},
    {"planTier", &ReplyFields::plan_tier},
}};

// What a string may hold for the scan: printable ASCII but for the quote and the backslash.
constexpr auto kPlain = [] {
    std::array<bool, 256> plain{};
    for (std::size_t c = ' '; c <= '~'; ++c) plain[c] = c != '"' && c != '\\';
    return plain;
}();

bool is_space(char c) noexcept { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// Reads values from left to right. Every function is false at what it does not know, and then the
/// scan is over.
class Scanner {
public:
    explicit Scanner(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

    // An object and nothing else.
    bool document(ReplyFields& fields) {
        skip_space();
        if (!take('{') || !members(&fields, 0)) return false;
        skip_space();
        return at_ == end_;
    }

private:
    void skip_space() {
        while (at_ != end_ && is_space(*at_)) ++at_;
    }
    bool take(char wanted) {
        if (at_ == end_ || *at_ != wanted) return false;
        ++at_;
        return true;
    }
    bool take_word(std::string_view word) {
        if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) {
            return false;
        }
        at_ += word.size();
        return true;
    }

    // Behind the opening brace. `fields` is set for the outermost object.
    bool members(ReplyFields* fields, int depth) {
        skip_space();
        if (take('}')) return true;
        do {
            skip_space();
            std::string_view name;
            if (!string(name)) return false;
            skip_space();
            if (!take(':')) return false;
            skip_space();
            if (!(fields != nullptr ? member(*fields, name) : value(depth + 1))) return false;
            skip_space();
        } while (take(','));
        return take('}');
    }

    // The value of a member of the outermost object.
    bool member(ReplyFields& fields, std::string_view name) {
        const char* const begin = at_;
        if (!value(1)) return false;
        const std::string_view text(begin, static_cast<std::size_t>(at_ - begin));
        for (const auto& flag : kFlags) {
            if (flag.name != name) continue;
            if (first(seen_flags_, flag, kFlags) && (text == "true" || text == "false")) {
                fields.*flag.field = text == "true";
            }
        }
        for (const auto& one : kTexts) {
            if (one.name != name) continue;
            if (first(seen_texts_, one, kTexts) && text.front() == '"') {
                fields.*one.field = text.substr(1, text.size() - 2);
            }
        }
        return true;
    }
    template <typename Seen, typename One, typename Table>
    static bool first(Seen& seen, const One& one, const Table& table) {
        auto& mark = seen[static_cast<std::size_t>(&one - table.data())];
        return !std::exchange(mark, true);
    }

    bool value(int depth) {
        if (at_ == end_ || depth > kScanDepthMax) return false;
        std::string_view ignored;
        switch (*at_) {
            case '"': return string(ignored);
            case '{': ++at_; return members(nullptr, depth);
            case '[': ++at_; return elements(depth);
            case 't': return take_word("true");
            case 'f': return take_word("false");
            case 'n': return take_word("null");
            default: return number();
        }
    }

    // Behind the opening bracket.
    bool elements(int depth) {
        skip_space();
        if (take(']')) return true;
        do {
            skip_space();
            if (!value(depth + 1)) return false;
            skip_space();
        } while (take(','));
        return take(']');
    }

    bool string(std::string_view& into) {
        if (!take('"')) return false;
        const char* const begin = at_;
        while (at_ != end_ && kPlain[static_cast<unsigned char>(*at_)]) ++at_;
        into = {begin, static_cast<std::size_t>(at_ - begin)};
        return take('"');
    }

    bool number() {
        (void)take('-');
        const char* const begin = at_;
        if (!digits()) return false;
        if (*begin == '0' && at_ - begin > 1) return false;
        return !take('.') || digits();  // an exponent is left to RapidJSON
    }
    bool digits() {
        const char* const begin = at_;
        while (at_ != end_ && is_digit(*at_)) ++at_;
        const auto count = static_cast<std::size_t>(at_ - begin);
        return count > 0 && count <= kScanDigitsMax;
    }

    const char* at_;
    const char* const end_;
    std::array<bool, kFlags.size()> seen_flags_{};
    std::array<bool, kTexts.size()> seen_texts_{};
};

}  // namespace

std::optional<ReplyFields> scan_fields(std::string_view body) {
    ReplyFields fields;
    if (!Scanner(body).document(fields)) return std::nullopt;
    return fields;
}

std::optional<ReplyFields> parse_fields(std::string_view body) {
    // Iterative: a body of 64 KiB of '[' must not use up the stack.
    constexpr unsigned kFlagsOfParser =
        rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;
    rapidjson::Document json;
    json.Parse<kFlagsOfParser>(body.data(), body.size());
    if (json.HasParseError() || !json.IsObject()) return std::nullopt;
    const rapidjson::Value& object = json;
    const auto find = [&object](std::string_view name) -> const rapidjson::Value* {
        const auto found = object.FindMember(
            rapidjson::Value(name.data(), static_cast<rapidjson::SizeType>(name.size())));
        return found == object.MemberEnd() ? nullptr : &found->value;
    };
    ReplyFields fields;
    for (const auto& flag : kFlags) {
        const auto* const value = find(flag.name);
        if (value != nullptr && value->IsBool()) fields.*flag.field = value->GetBool();
    }
    for (const auto& one : kTexts) {
        const auto* const value = find(one.name);
        if (value == nullptr || !value->IsString()) continue;
        fields.*one.field = std::string(value->GetString(), value->GetStringLength());
    }
    return fields;
}

std::optional<ReplyFields> read_fields(std::string_view body) {
    if (auto fields = scan_fields(body)) return fields;
    return parse_fields(body);
}

}  // namespace opsrelay::forward
