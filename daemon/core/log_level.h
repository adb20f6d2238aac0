// How much is logged, changed while the process runs. What else there is to logging is in log.h.
#pragma once

#include "core/log.h"

namespace opsrelay::log {

/// The least severe level from now on. Any thread.
void set_level(Level level);

}  // namespace opsrelay::log
