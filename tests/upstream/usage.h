// What was used when: requests and money by UTC day and month.
#pragma once

#include <cstdint>
#include <map>

#include "upstream/calendar.h"

namespace opsrelay::upstream {

struct Used {
    std::int64_t requests = 0;
    std::uint64_t nano_usd = 0;
};

/// Remembers at most kDaysMax days and months; the oldest are forgotten. Thread: one.
class Usage {
public:
    static constexpr std::size_t kDaysMax = 1024;

    void add(Day day, Used more);
    [[nodiscard]] Used of(Day day) const;
    [[nodiscard]] Used of(Month month) const;
    void clear();

private:
    std::map<Day, Used> days_;
    std::map<Month, Used> months_;
};

}  // namespace opsrelay::upstream
