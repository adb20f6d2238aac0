#include "upstream/validation.h"

#include <rapidjson/document.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>

#include "upstream/calendar.h"
#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

using Value = rapidjson::Value;
using Arena = rapidjson::MemoryPoolAllocator<>;
using Document = rapidjson::GenericDocument<rapidjson::UTF8<>, Arena, Arena>;

constexpr int kMaxInt32 = 2'147'483'647;

/// Every field that a document or an official client names.
constexpr std::array<std::string_view, 18> kFields{
    "externalRequestId", "provider", "model",     "inputTokens", "outputTokens", "totalTokens",
    "latencyMs",         "status",   "errorCode", "dataMode",    "environment",  "promptVersion",
    "endpointTag",       "userId",   "tenantId",  "featureTag",  "createdAt",    "metadata"};

class Checker {
public:
    Checker(const Value& object, bool lenient, std::vector<FieldError>& errors)
        : object_(object), lenient_(lenient), errors_(errors) {}

    /// A non-blank string.
    void name(std::string_view key, std::string& out) {
        const auto* value = find(key);
        if (value == nullptr) return missing(key);
        if (!value->IsString()) return fail(key, "must be a string");
        const auto text = text_of(*value);
        if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
            return fail(key, "must not be empty");
        }
        out = text;
    }
    void tokens(std::string_view key, bool required, std::uint32_t& out) {
        const auto* value = find(key);
        if (value == nullptr) {
            if (required) missing(key);
            return;
        }
        if (!value->IsInt() || value->GetInt() < 0 || value->GetInt() > kMaxInt32) {
            return fail(key, "must be an integer from 0 to 2147483647");
        }
        out = static_cast<std::uint32_t>(value->GetInt());
    }
    /// The value, when it is one of the names.
    std::string_view choice(std::string_view key, bool required,
                            std::initializer_list<std::string_view> names,
                            std::string_view message) {
        const auto* value = find(key);
        if (value == nullptr) {
            if (required) fail(key, message);
            return {};
        }
        if (value->IsString() &&
            std::find(names.begin(), names.end(), text_of(*value)) != names.end()) {
            return text_of(*value);
        }
        fail(key, message);
        return {};
    }
    void id(std::size_t bytes_max, std::string& out) {
        constexpr std::string_view kId = "externalRequestId";
        name(kId, out);
        if (bytes_max > 0 && out.size() > bytes_max) fail(kId, "is too long");
    }
    std::optional<WallTime> time(std::string_view key) const {
        const auto* value = find(key);
        if (value == nullptr || !value->IsString()) return std::nullopt;
        return parse_utc(text_of(*value));
    }
    void no_other_fields() {
        for (const auto& member : object_.GetObject()) {
            const auto key = text_of(member.name);
            if (std::find(kFields.begin(), kFields.end(), key) == kFields.end()) {
                fail(key, "is not a known field");
            }
        }
    }
    void optional_text(std::string_view key) {
        const auto* value = find(key);
        if (value != nullptr && !value->IsString()) fail(key, "must be a string or null");
    }
    /// The Python SDK sends integers here.
    void optional_code(std::string_view key) {
        const auto* value = find(key);
        if (value != nullptr && !value->IsString() && !value->IsNumber()) {
            fail(key, "must be a string or null");
        }
    }
    void optional_object(std::string_view key) {
        const auto* value = find(key);
        if (value != nullptr && !value->IsObject()) fail(key, "must be an object or null");
    }

private:
    [[nodiscard]] const Value* find(std::string_view key) const {
        const Value wanted(
            rapidjson::StringRef(key.data(), static_cast<rapidjson::SizeType>(key.size())));
        const auto member = object_.FindMember(wanted);
        if (member == object_.MemberEnd() || member->value.IsNull()) return nullptr;
        return &member->value;
    }
    void missing(std::string_view key) {
        if (!lenient_) fail(key, "is required");
    }
    void fail(std::string_view key, std::string_view message) {
        errors_.push_back({std::string(key), std::string(message)});
    }

    const Value& object_;
    bool lenient_;
    std::vector<FieldError>& errors_;
};

}  // namespace

Checked check_request(std::string_view body, const Rules& rules) {
    alignas(std::max_align_t) std::array<char, 4096> value_room;
    alignas(std::max_align_t) std::array<char, 2048> stack_room;
    Arena values(value_room.data(), value_room.size());
    Arena stack(stack_room.data(), stack_room.size());
    Document document(&values, 1024, &stack);
    constexpr unsigned kFlags = rapidjson::kParseIterativeFlag |  // nesting cannot use up our stack
                                rapidjson::kParseValidateEncodingFlag;
    document.Parse<kFlags>(body.data(), body.size());

    Checked checked;
    if (document.HasParseError() || !document.IsObject()) {
        checked.missing_id = true;
        checked.errors.push_back({"body", "must be a JSON object"});
        return checked;
    }
    auto& submission = checked.submission;
    Checker check(document, rules.lenient, checked.errors);
    check.id(rules.id_bytes_max, submission.id);
    checked.missing_id = submission.id.empty();
    check.name("provider", submission.provider);
    check.name("model", submission.model);
    check.tokens("inputTokens", true, submission.input_tokens);
    check.tokens("outputTokens", true, submission.output_tokens);
    std::uint32_t unused = 0;
    check.tokens("totalTokens", false, unused);
    check.tokens("latencyMs", false, unused);
    check.choice("status", true, {"success", "error"}, "must be success or error");
    const auto mode =
        check.choice("dataMode", false, {"real", "test", "demo"}, "must be real, test or demo");
    submission.mode = parse_enum(kDataModes, mode).value_or(DataMode::real);
    check.choice("environment", false, {"prod", "staging", "dev"}, "must be prod, staging or dev");
    check.optional_code("errorCode");
    for (const auto key :
         {"promptVersion", "endpointTag", "userId", "tenantId", "featureTag", "createdAt"}) {
        check.optional_text(key);
    }
    check.optional_object("metadata");
    if (rules.read_created_at) submission.created_at = check.time("createdAt");
    if (rules.reject_unknown_fields) check.no_other_fields();
    return checked;
}

}  // namespace opsrelay::upstream
