// Real listeners on one event loop, with the inlet replaced, and clients that never block it.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/plan_state.h"
#include "core/unique_fd.h"
#include "listen/fake_inlet.h"
#include "listen/inherited.h"
#include "listen/listeners.h"
#include "observe/metrics.h"
#include "support/temp_dir.h"

namespace opsrelay::listen::testing {

/// Owns everything; its destructor stops the listeners and requires that nothing is left running.
class World {
public:
    World();
    ~World();

    /// Unix listeners get `name` in the temporary directory, UDP and HTTP without a name a free
    /// port.
    void add(ListenerKind kind, const std::string& name = {});
    /// Opens and starts what was added; again after stop().
    void start(InheritedSockets inherited = {});
    /// Runs the loop until `done` holds; fails the test when that takes implausibly long.
    void run_until(const std::function<bool()>& done);
    /// Runs what can run now.
    void run_ready();
    /// Runs one handler, the next that is ready; fails the test when none becomes so.
    void run_one();
    void stop(milliseconds patience);

    [[nodiscard]] std::string address(std::size_t index = 0) const;
    [[nodiscard]] std::uint64_t refused(std::size_t index = 0);

    asio::io_context io{1};
    SystemClock clock;
    observe::Registry registry;
    PlanStates plans;
    test::TempDir dir;
    Options options;
    FakeInlet inlet;
    std::unique_ptr<Listeners> listeners;

private:
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    bool stopped_ = false;
};

/// A client: a non-blocking socket and what it has read so far.
class Client {
public:
    /// Connects to a path or an address of the form 127.0.0.1:1234.
    Client(int type, const std::string& address);

    /// Writes all of `bytes`, running the world while the socket is full.
    void send(World& world, std::string_view bytes);
    /// One datagram or one write; the number of bytes taken, or -errno.
    long try_send(std::string_view bytes);
    /// Says that no more will be sent.
    void finish();
    /// Reads what is there. False once the peer has closed.
    bool read();
    [[nodiscard]] bool closed() {
        read();
        return closed_;
    }
    /// Runs the world until the received text ends with `text`, or the peer has closed.
    void expect(World& world, std::string_view text);

    UniqueFd fd;
    std::string received;

private:
    bool closed_ = false;
};

}  // namespace opsrelay::listen::testing
