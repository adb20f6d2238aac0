// What the process keeps resident while it waits: once, when the start is over.
#pragma once

namespace opsrelay {

/// Before the first thread: one pool of freed memory for all threads, instead of one each.
void limit_heap_arenas() noexcept;

/// Gives back what only the start needed: freed heap, and the pages of program and libraries that
/// were touched (configuration, recovery, static tables). Pages that are needed again come back
/// from the page cache by a minor fault. Any thread.
void release_startup_memory() noexcept;

}  // namespace opsrelay
