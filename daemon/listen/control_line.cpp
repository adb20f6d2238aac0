#include "listen/control_line.h"

#include <charconv>

namespace opsrelay::listen {

namespace {

// Takes tokens from the front of a line.
class Tokens {
public:
    explicit Tokens(std::string_view line) noexcept : rest_(line) {}

    bool take(std::string_view token) noexcept {
        skip_space();
        if (!rest_.starts_with(token)) return false;
        rest_.remove_prefix(token.size());
        return true;
    }
    bool take_number(std::uint64_t& number) noexcept {
        skip_space();
        if (rest_.size() > 1 && rest_[0] == '0' && rest_[1] >= '0' && rest_[1] <= '9') {
            return false;  // JSON has no leading zeros
        }
        const auto* end = rest_.data() + rest_.size();
        const auto [stopped, ec] = std::from_chars(rest_.data(), end, number);
        if (ec != std::errc{}) return false;
        rest_.remove_prefix(static_cast<std::size_t>(stopped - rest_.data()));
        return true;
    }
    bool at_end() noexcept {
        skip_space();
        return rest_.empty();
    }

private:
    void skip_space() noexcept {
        const auto first = rest_.find_first_not_of(" \t\r\n");
        rest_.remove_prefix(first == std::string_view::npos ? rest_.size() : first);
    }

    std::string_view rest_;
};

}  // namespace

std::optional<ControlLine> parse_control_line(std::string_view line) noexcept {
    Tokens tokens(line);
    if (!tokens.take("{") || !tokens.take("\"opsrelay\"")) return std::nullopt;  // nearly always
    if (!tokens.take(":") || !tokens.take("{")) return std::nullopt;
    ControlLine control{};
    if (tokens.take("\"acks\"")) {
        if (!tokens.take(":")) return std::nullopt;
        if (tokens.take("true")) {
            control.kind = ControlLine::Kind::acks_on;
        } else if (tokens.take("false")) {
            control.kind = ControlLine::Kind::acks_off;
        } else {
            return std::nullopt;
        }
    } else if (tokens.take("\"dropped\"")) {
        control.kind = ControlLine::Kind::dropped;
        if (!tokens.take(":") || !tokens.take_number(control.dropped)) return std::nullopt;
    } else {
        return std::nullopt;
    }
    if (!tokens.take("}") || !tokens.take("}") || !tokens.at_end()) return std::nullopt;
    return control;
}

}  // namespace opsrelay::listen
