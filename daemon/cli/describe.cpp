#include "cli/describe.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace opsrelay::cli {

namespace {

// "auto|always|never"; of "N|off" what is a word.
std::vector<std::string> choices_of(std::string_view type) {
    std::vector<std::string> words;
    if (type.find('|') == std::string_view::npos) return words;
    while (!type.empty()) {
        const auto word = type.substr(0, type.find('|'));
        type.remove_prefix(std::min(type.size(), word.size() + 1));
        const bool lower =
            std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
        if (lower) words.emplace_back(word);
    }
    return words;
}

ValueKind kind_of(const OptionPage& option) {
    if (!option.choices.empty()) return ValueKind::choice;
    if (option.type == "FILE" || option.type == "PATH") return ValueKind::file;
    if (option.type == "DIR") return ValueKind::directory;
    return ValueKind::anything;
}

}  // namespace

void set_type(OptionPage& page, std::string type) {
    page.type = std::move(type);
    page.choices = choices_of(page.type);
    page.kind = kind_of(page);
}

}  // namespace opsrelay::cli
