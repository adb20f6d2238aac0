#include "forward/watch.h"

namespace opsrelay::forward {

using boost::system::error_code;

void Watch::set(Socket& socket, TimePoint due) {
    socket_ = &socket;
    due_ = due;
    if (due_ < armed_for_) arm();
}

void Watch::stop() {
    clear();
    timer_.cancel();
}

void Watch::arm() {
    armed_for_ = due_;
    timer_.expires_at(due_);
    timer_.async_wait([self = shared_from_this(), at = due_](const error_code& ec) {
        if (!ec) self->fired(at);
    });
}

void Watch::fired(TimePoint at) {
    if (at != armed_for_) return;  // armed anew when this one was already on its way
    armed_for_ = TimePoint::max();
    if (socket_ == nullptr) return;
    if (due_ > at) return arm();
    expired_ = true;
    error_code ignored;  // the descriptor is gone either way
    socket_->close(ignored);
}

}  // namespace opsrelay::forward
