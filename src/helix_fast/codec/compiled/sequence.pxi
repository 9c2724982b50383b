"""A stream's sequences: those of its writer, and those that a reader has seen."""


@cython.final
cdef class Sequencer:
    """Numbers the chunks of a writer: at most one range is in flight. Owned by one thread at a time."""

    def __cinit__(self, last=0):
        self.last = u64(last, "last")
        self.in_flight = 0

    def reserve(self, count):
        """Put the next `count` sequences in flight; returns the first."""
        cdef uint64_t length = u64(count, "count")
        if length < 1:
            raise ValueError("count must be at least 1")
        if self.in_flight:
            raise RuntimeError("a range is in flight already")
        if length > UINT64_MAX - self.last:
            raise OverflowError(f"the last sequence is above {UINT64_MAX}")
        self.in_flight = length
        return self.last + 1

    def commit(self):
        """The range in flight was stored; returns its last sequence."""
        if not self.in_flight:
            raise RuntimeError("no range is in flight")
        self.last += self.in_flight
        self.in_flight = 0
        return self.last

    def rollback(self):
        """The range in flight was not stored: its sequences are free again."""
        self.in_flight = 0

    def jump(self, last):
        """Another writer moved the stream to `last`; drops the range in flight."""
        cdef uint64_t moved = u64(last, "last")
        if moved < self.last:
            raise ValueError(f"a stream does not go back: {moved} is below {self.last}")
        self.last = moved
        self.in_flight = 0


@cython.final
cdef class Window:
    """Sequences that a reader has seen: finds gaps and duplicates. Owned by one thread at a time."""

    def __cinit__(self, after=0):
        self.last = u64(after, "after")

    def offer(self, first, last):
        """Chunks to skip of an entry of first..last; -1: all were seen, -2: there is a gap before it."""
        cdef uint64_t start = u64(first, "first"), stop = u64(last, "last"), seen
        if start < 1 or stop < start:
            raise ValueError("a range starts at 1 or later and does not end before it starts")
        if stop <= self.last:
            return -1
        if start - 1 > self.last:
            return -2
        seen = self.last - start + 1
        self.last = stop
        return seen
