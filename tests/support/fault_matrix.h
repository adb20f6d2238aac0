// The fault matrix in tests/README.md: tests write their own section of it, and hold it to what
// they saw. tests/system/matrix.py does the same for the tests in Python.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace opsrelay::test {

struct FaultRow {
    std::string site;
    std::string fault;
    std::string outcome;
};

/// Compares the section of this name with `rows`; with RELAYTEST_UPDATE=1 it is written instead.
/// What differs; "" when nothing does.
[[nodiscard]] std::string check_matrix(std::string_view section, const std::vector<FaultRow>& rows);

}  // namespace opsrelay::test
