#include "core/assert.h"

#include <cstdio>
#include <cstdlib>

namespace opsrelay::detail {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
    std::fprintf(stderr, "BUG: assertion failed: %s at %s:%d\n", expression, file, line);
    std::abort();
}

}  // namespace opsrelay::detail
