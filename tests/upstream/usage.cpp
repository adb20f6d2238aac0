#include "upstream/usage.h"

namespace opsrelay::upstream {

namespace {

template <typename Key>
void add_to(std::map<Key, Used>& sums, Key key, Used more) {
    auto& sum = sums[key];
    sum.requests += more.requests;
    sum.nano_usd += more.nano_usd;
    if (sums.size() > Usage::kDaysMax) sums.erase(sums.begin());
}

template <typename Key>
Used find_in(const std::map<Key, Used>& sums, Key key) {
    const auto found = sums.find(key);
    return found == sums.end() ? Used{} : found->second;
}

}  // namespace

void Usage::add(Day day, Used more) {
    add_to(days_, day, more);
    add_to(months_, month_of(day), more);
}

Used Usage::of(Day day) const { return find_in(days_, day); }
Used Usage::of(Month month) const { return find_in(months_, month); }

void Usage::clear() {
    days_.clear();
    months_.clear();
}

}  // namespace opsrelay::upstream
