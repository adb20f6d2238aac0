"""What a disk holds after its power was cut: everything before the last flush, and of the writes
since then whatever the dice say, torn at sectors.

The writes come from QEMU's driver blklogwrites, in the format of dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst in the Linux source): little-endian, a
superblock and entries, each padded to a sector, an entry's data behind it.
"""

import struct

MAGIC = 0x6a736677736872
SUPER = struct.Struct("<QQQI")  # magic, version, entries (not kept up to date), sector size
ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, length of the data
FLUSH, FUA, DISCARD = 1, 2, 4


class Write:
    """One request: `data` at byte `offset`; None: discarded."""

    def __init__(self, offset, length, flags, data):
        self.offset, self.length, self.flags, self.data = offset, length, flags, data


def read_log(path):
    """(writes, sector size); what QEMU was writing when it was killed is left out."""
    with open(path, "rb") as log:
        head = log.read(SUPER.size)
        if len(head) < SUPER.size:
            return [], 512
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
            writes.append(Write(sector * sector_size, length, flags, data))
        return writes, sector_size


def last_flush(writes):
    """Number of writes that the last flush covers."""
    for number in range(len(writes), 0, -1):
        if writes[number - 1].flags & FLUSH:
            return number
    return 0


def cut(image, log, rng):
    """Makes `image`, as it was before the run, what it may be after the cut. (kept, dice) counts
    of the writes that were certain and of those that were not."""
    writes, sector_size = read_log(log)
    certain = last_flush(writes)
    with open(image, "r+b") as disk:
        for number, write in enumerate(writes):
            if number < certain or write.flags & FUA:
                sectors = None
            else:
                sectors = torn(write.length // sector_size, rng)
            apply(disk, write, sectors, sector_size)
    return certain, len(writes) - certain


def torn(count, rng):
    """Which sectors of an unflushed write arrive: all, none, the first ones, or any."""
    kind = rng.randrange(4)
    if kind == 0:
        return range(count)
    if kind == 1:
        return ()
    if kind == 2:
        return range(rng.randint(0, count))
    return [sector for sector in range(count) if rng.random() < 0.5]


def apply(disk, write, sectors, sector_size):
    """Puts the sectors of a write, or all of it, onto the disk. A discard leaves what was there."""
    if write.data is None or write.length == 0:
        return
    if sectors is None:
        disk.seek(write.offset)
        disk.write(write.data)
        return
    for sector in sectors:
        begin = sector * sector_size
        disk.seek(write.offset + begin)
        disk.write(write.data[begin:begin + sector_size])
