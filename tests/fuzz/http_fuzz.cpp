// The HTTP intake: a connection on which any bytes come in, and the bodies of batches.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/assert.h"
#include "core/task_group.h"
#include "fuzz/fuzz.h"
#include "listen/content_coding.h"
#include "listen/fake_inlet.h"
#include "listen/http_batch.h"
#include "listen/http_session.h"

namespace opsrelay::fuzz {

namespace {

using namespace opsrelay::listen;

/// One connection of a Unix socket, whose peer sends `bytes` and no more.
class Connection {
public:
    Connection() {
        options_.http_header_bytes_max = 2U << 10U;
        options_.http_body_max = Bytes{8U << 10U};
        inlet_.settle_at_once = true;
    }

    /// What is answered.
    std::string talk(std::string_view bytes) {
        std::array<int, 2> ends{};
        const auto made =
            ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data());
        OPSRELAY_ASSERT(made == 0);
        UniqueFd ours(ends[0]);
        TaskGroup tasks(io_.get_executor(), clock_);
        tasks.spawn("http", serve_http(UniqueFd(ends[1]), state_, io_.get_executor(), scratch_));
        std::string answer;
        bool finished = false;
        while (tasks.size() > 0) {
            if (!bytes.empty()) {
                const auto sent = ::send(ours.get(), bytes.data(),
                                         std::min<std::size_t>(bytes.size(), 4096), MSG_NOSIGNAL);
                if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
                if (sent < 0 && errno != EAGAIN) bytes = {};
            } else if (!std::exchange(finished, true)) {
                ::shutdown(ours.get(), SHUT_WR);
            }
            io_.restart();
            io_.poll();
            receive(ours.get(), answer);
        }
        receive(ours.get(), answer);
        return answer;
    }

    [[nodiscard]] const testing::FakeInlet& inlet() const noexcept { return inlet_; }

private:
    static void receive(int fd, std::string& answer) {
        std::array<char, 8192> chunk{};
        for (;;) {
            const auto got = ::recv(fd, chunk.data(), chunk.size(), 0);
            if (got <= 0) return;
            answer.append(chunk.data(), static_cast<std::size_t>(got));
        }
    }

    asio::io_context io_{1};
    SystemClock clock_;
    observe::Registry registry_;
    Options options_;
    testing::FakeInlet inlet_{io_.get_executor(), clock_};
    RoomWatch room_{io_.get_executor(), inlet_, clock_};
    ConnectionBudget budget_;
    InputRoom input_room_{io_.get_executor(), clock_, milliseconds{10'000}};
    PlanStates plans_;
    ListenerState state_{.options = options_,
                         .inlet = inlet_,
                         .clock = clock_,
                         .room = room_,
                         .connections = budget_,
                         .input_room = input_room_,
                         .origin = {.kind = ListenerKind::http},
                         .plans = plans_,
                         .refresh_workspace = {},
                         .access = {},
                         .limiter = RateLimiter(0),
                         .tokens = std::nullopt,
                         .counts = {registry_, "http:fuzz"},
                         .address = "fuzz"};
    std::vector<char> scratch_ = std::vector<char>(64U << 10U);
};

void session(std::string_view bytes) {
    Connection connection;
    const auto answer = connection.talk(bytes);
    OPSRELAY_ASSERT(answer.empty() || answer.starts_with("HTTP/1.1 "));
    // Nothing larger than the limits reached the inlet.
    for (const auto& event : connection.inlet().recorded) {
        OPSRELAY_ASSERT(event.bytes.size() <= (64U << 10U));
    }
}

void batch(std::string_view bytes) {
    for (const auto form : {BatchForm::array, BatchForm::ndjson}) {
        const auto items = split_batch(form, bytes);
        if (!items) continue;
        OPSRELAY_ASSERT(items->size() <= kBatchEventsMax + 1);
        const auto* last = bytes.data();
        for (const auto item : *items) {
            OPSRELAY_ASSERT(!item.empty());
            OPSRELAY_ASSERT(item.data() >= last);
            last = item.data() + item.size();
            OPSRELAY_ASSERT(last <= bytes.data() + bytes.size());
        }
    }
    constexpr Bytes kUnpackedMax{16U << 10U};
    for (const auto coding : {ContentCoding::gzip, ContentCoding::zstd}) {
        OPSRELAY_ASSERT(unpack(coding, bytes, kUnpackedMax).bytes.size() <= kUnpackedMax.count);
    }
}

}  // namespace

void one_input(std::string_view input) {
    const auto [choice, bytes] = choose(input, 2);
    if (choice == 0) {
        session(bytes);
    } else {
        batch(bytes);
    }
}

}  // namespace opsrelay::fuzz
