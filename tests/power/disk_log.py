"""What a disk holds after its power was cut: everything before the last flush, and of the writes
since then whatever the dice say, torn at blocks of 4 KiB: ext4 does not mount where a commit block
of its journal is torn, so a disk under it must write as much as a whole.

The writes come from QEMU's driver blklogwrites, in the format of dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst in the Linux source): little-endian, a
superblock and entries, each padded to a sector, an entry's data behind it.
"""

import struct

MAGIC = 0x6a736677736872
SUPER = struct.Struct("<QQQI")  # magic, version, entries (not kept up to date), sector size
ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, length of the data
FLUSH, FUA, DISCARD = 1, 2, 4
BLOCK = 4096


class Write:
    """One request: `data` at byte `offset`; None: discarded. `logged`: the log's size with it."""

    def __init__(self, offset, length, flags, data, logged):
        self.offset, self.length, self.flags, self.data = offset, length, flags, data
        self.logged = logged


def read_log(path):
    """The writes; what QEMU was writing when it was killed is left out."""
    with open(path, "rb") as log:
        head = log.read(SUPER.size)
        if len(head) < SUPER.size:
            return []
        magic, _, _, sector_size = SUPER.unpack(head)
        if magic != MAGIC:
            raise ValueError(f"{path}: not a log of writes")
        log.seek(sector_size)
        writes = []
        while True:
            entry = log.read(sector_size)
            if len(entry) < sector_size:
                break
            sector, sectors, flags, length = ENTRY.unpack_from(entry)
            if not 0 <= flags <= 15 or length > 1 << 28:
                break
            length = sectors * sector_size
            discards = flags & DISCARD != 0
            data = None if discards else log.read(length)
            if data is not None and len(data) < length:
                break
            writes.append(Write(sector * sector_size, length, flags, data, log.tell()))
        return writes


def last_flush(writes):
    """Number of writes that the last flush covers."""
    for number in range(len(writes), 0, -1):
        if writes[number - 1].flags & FLUSH:
            return number
    return 0


# As many writes may be under way at a time.
UNDER_WAY_MAX = 16
# Moments that are looked at; most come right after a flush, when nothing is left to the dice.
MOMENTS = 4


def cut(image, log, logged, rng):
    """Makes `image`, as it was before the run, what it may be after a cut that came when the log
    had `logged` bytes or a few writes later. (kept, dice) counts of the writes that were certain
    and of those that were not."""
    writes = read_log(log)
    before = sum(1 for write in writes if write.logged <= logged)
    counts = [min(before + rng.randint(0, UNDER_WAY_MAX), len(writes)) for _ in range(MOMENTS)]
    count = max(counts, key=lambda one: one - last_flush(writes[:one]))
    writes = writes[:count]
    certain = last_flush(writes)
    with open(image, "r+b") as disk:
        for number, write in enumerate(writes):
            if number < certain or write.flags & FUA:
                blocks = None
            else:
                blocks = torn(-(-write.length // BLOCK), rng)
            apply(disk, write, blocks)
    return certain, len(writes) - certain


def torn(count, rng):
    """Which blocks of an unflushed write arrive: all, none, the first ones, or any."""
    kind = rng.randrange(4)
    if kind == 0:
        return range(count)
    if kind == 1:
        return ()
    if kind == 2:
        return range(rng.randint(0, count))
    return [block for block in range(count) if rng.random() < 0.5]


def apply(disk, write, blocks):
    """Puts the blocks of a write, or all of it, onto the disk. A discard leaves what was there."""
    if write.data is None or write.length == 0:
        return
    if blocks is None:
        disk.seek(write.offset)
        disk.write(write.data)
        return
    for block in blocks:
        begin = block * BLOCK
        disk.seek(write.offset + begin)
        disk.write(write.data[begin:begin + BLOCK])
