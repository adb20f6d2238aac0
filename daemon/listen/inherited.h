// Listening sockets that the process was started with: by systemd's socket units, or by any other
// parent that holds them, so that they outlive this process and lose nothing at a restart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"
#include "listen/options.h"

namespace opsrelay::listen {

/// Told apart by address and type, not by their order or names. Thread: one.
class InheritedSockets {
public:
    InheritedSockets() = default;

    /// Takes bound sockets; streams must listen already. They become non-blocking and close-on-exec
    /// and are otherwise used as they are. Errors: config_invalid, naming the descriptor.
    [[nodiscard]] static Result<InheritedSockets> adopt(std::vector<NamedFd> descriptors);

    /// True when there was any: then listeners that nobody configured stay off unless inherited.
    [[nodiscard]] bool any() const noexcept { return any_; }
    struct Taken {
        UniqueFd fd;
        std::string address;  // as a listener shows it
    };
    /// The socket of this type (SOCK_DGRAM, SOCK_STREAM) that was bound to this very path, or to
    /// this address and port. Empty when there is none; so it is for port 0, which asks for a port
    /// that nobody has yet.
    [[nodiscard]] std::optional<Taken> take(int type, const std::string& path);
    [[nodiscard]] std::optional<Taken> take(int type, const std::string& address,
                                            std::uint16_t port);
    /// Error: config_invalid, naming those that nobody took.
    [[nodiscard]] Result<void> all_taken() const;

private:
    struct Socket {
        UniqueFd fd;
        std::string name;  // as the parent calls it
        int type = 0;
        std::string path;     // of a Unix socket
        std::string address;  // numeric, of an IP socket
        std::uint16_t port = 0;

        [[nodiscard]] std::string shown() const;
    };

    [[nodiscard]] static Result<Socket> inspect(NamedFd descriptor);
    [[nodiscard]] std::optional<Taken> take_at(std::vector<Socket>::iterator found);

    std::vector<Socket> sockets_;
    bool any_ = false;
};

}  // namespace opsrelay::listen
