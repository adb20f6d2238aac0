#include "core/process_memory.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace opsrelay {

namespace {

// The dynamic linker tells addresses as integers.
template <typename T>
T* at_address(ElfW(Addr) address) noexcept {
    return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

// Only segments that nothing ever wrote to: a private page with relocations in it exists nowhere
// else. Linkers put all of those into segments that are writable at first, except for objects with
// relocations in their text, which are left alone.
int release_segments(dl_phdr_info* object, std::size_t, void*) noexcept {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    for (std::size_t i = 0; i < object->dlpi_phnum; ++i) {
        const auto& segment = object->dlpi_phdr[i];
        if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
        const auto begin = object->dlpi_addr + segment.p_vaddr;
        const auto first = (begin + page - 1) / page * page;
        const auto last = (begin + segment.p_memsz) / page * page;
        if (first >= last) continue;
        // Advice: where it is not taken, everything is as before.
        (void)::madvise(at_address<void>(first), last - first, MADV_DONTNEED);
    }
    return 0;
}

bool relocates_text(const dl_phdr_info& object) noexcept {
    for (std::size_t i = 0; i < object.dlpi_phnum; ++i) {
        if (object.dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
        const auto* entry =
            at_address<const ElfW(Dyn)>(object.dlpi_addr + object.dlpi_phdr[i].p_vaddr);
        for (; entry->d_tag != DT_NULL; ++entry) {
            if (entry->d_tag == DT_TEXTREL) return true;
            if (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0) return true;
        }
    }
    return false;
}

int visit(dl_phdr_info* object, std::size_t size, void* data) noexcept {
    return relocates_text(*object) ? 0 : release_segments(object, size, data);
}

}  // namespace

void bound_heap() noexcept {
    ::mallopt(M_ARENA_MAX, 1);
    ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
}

void forbid_dumps() noexcept {
    (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // cannot fail with 0
}

void release_startup_memory() noexcept {
    ::malloc_trim(0);
    ::dl_iterate_phdr(visit, nullptr);
}

}  // namespace opsrelay
