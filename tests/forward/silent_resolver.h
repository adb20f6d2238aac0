// A name server that does not answer: names under ".silent" are not resolved before release().
#pragma once

namespace opsrelay::test {

/// While it lives, getaddrinfo(3) of this executable waits for names that end in ".silent"; other
/// names are the system's. One at a time.
class SilentResolver {
public:
    SilentResolver();
    SilentResolver(const SilentResolver&) = delete;
    SilentResolver& operator=(const SilentResolver&) = delete;
    ~SilentResolver() { release(); }

    /// Lets every wait end: the names do not exist. Any thread.
    void release();
};

}  // namespace opsrelay::test
