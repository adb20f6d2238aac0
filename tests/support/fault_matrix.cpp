#include "support/fault_matrix.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace opsrelay::test {

std::string check_matrix(std::string_view section, const std::vector<FaultRow>& rows) {
    const std::string path = OPSRELAY_SOURCE_DIR "/tests/README.md";
    std::ifstream stream(path);
    std::string text((std::istreambuf_iterator<char>(stream)), {});
    const auto begin_mark = fmt::format("<!-- matrix {} -->\n", section);
    const std::string_view end_mark = "<!-- end -->\n";
    const auto begin = text.find(begin_mark);
    const auto end = text.find(end_mark, begin);
    if (begin == std::string::npos || end == std::string::npos) {
        return fmt::format("{} has no section \"{}\"; add its marks", path, section);
    }
    std::string table = "| Site | Fault | What happened |\n|---|---|---|\n";
    for (const auto& row : rows) {
        table += fmt::format("| {} | {} | {} |\n", row.site, row.fault, row.outcome);
    }
    const auto at = begin + begin_mark.size();
    const auto committed = text.substr(at, end - at);
    if (committed == table) return "";
    const char* const update = std::getenv("RELAYTEST_UPDATE");
    if (update != nullptr && std::string_view(update) == "1") {
        std::ofstream(path) << text.replace(at, end - at, table);
        return "";
    }
    return fmt::format(
        "section \"{}\" of {} is not what the tests saw; look at the difference, then run this "
        "with RELAYTEST_UPDATE=1:\n{}instead of\n{}",
        section, path, table, committed);
}

}  // namespace opsrelay::test
