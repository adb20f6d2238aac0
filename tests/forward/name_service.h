// What names mean in tests: getaddrinfo(3) of the test program is ours.
#pragma once

#include <string>
#include <vector>

namespace opsrelay::test {

/// A name server that does not answer: while it lives, names that end in ".silent" are not resolved
/// before release(); other names are the system's. One at a time.
class SilentResolver {
public:
    SilentResolver();
    SilentResolver(const SilentResolver&) = delete;
    SilentResolver& operator=(const SilentResolver&) = delete;
    ~SilentResolver();

    /// Lets every wait end: the names do not exist. Returns when the last one has ended. Any
    /// thread.
    void release();
    /// Lookups that wait.
    [[nodiscard]] static std::size_t waiting();
};

/// While it lives, "many.test" has these numeric addresses, in this order. One at a time.
class ManyAddresses {
public:
    explicit ManyAddresses(std::vector<std::string> addresses);
    ManyAddresses(const ManyAddresses&) = delete;
    ManyAddresses& operator=(const ManyAddresses&) = delete;
    ~ManyAddresses();
};

}  // namespace opsrelay::test
