// What the process keeps resident while it waits: once, when the start is over.
#pragma once

namespace opsrelay {

/// Before the first thread: one pool of freed memory for all threads, instead of one each; and
/// blocks of 256 KiB and more go back to the system when they are freed. glibc would raise that
/// threshold with the largest block freed, and keep the memory of a flood in a heap that cannot
/// shrink (mallopt(3), M_MMAP_THRESHOLD).
void bound_heap() noexcept;

/// Gives back what only the start needed: freed heap, and the pages of program and libraries that
/// were touched (configuration, recovery, static tables). Pages that are needed again come back
/// from the page cache by a minor fault. Any thread.
void release_startup_memory() noexcept;

/// No core file, no debugger of the same user, no reader of /proc/PID/mem: keys and payloads are in
/// memory. Whoever has CAP_SYS_PTRACE still can. /proc/PID belongs to root from then on.
void forbid_dumps() noexcept;

}  // namespace opsrelay
