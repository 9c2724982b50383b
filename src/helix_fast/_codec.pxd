"""The codec's C declarations: the whole story of the hot path on one page.

Bodies are in `_codec.pyx` and the `.pxi` files that it includes, the contract is in `_codec.pyi`.
Nothing here does I/O or knows a clock. There is no mutable C state outside the objects below.
Free threading: ChunkEncoder and AppendFramer never change once made. Batch guards its buffer with the object's critical
section, inside which no Python code runs and nothing is allocated by Python. Sequencer and Window hold numbers only: no
race can free memory.
"""

from libc.stdint cimport uint64_t

cdef enum:
    DIGITS = 20                 # decimal digits of the largest unsigned 64-bit integer
    MAX_DEPTH = 512             # levels of nesting that check_finite follows
    FIRST_CAPACITY = 1024       # bytes of a batch's first buffer: some eight chunks
    KEPT_CAPACITY = 262144      # take() frees a larger buffer, so one huge chunk does not pin its memory


cdef struct Number:             # a number as decimal text
    char text[DIGITS]           # right-aligned
    int start                   # index of the first digit


cdef struct Text:               # a str as UTF-8; the bytes belong to the str and live as long as it does
    const char* data
    Py_ssize_t length
    Py_ssize_t escaped          # its length inside a JSON string; `length` where nothing wants escaping


cdef class ChunkEncoder:
    cdef bytes tail             # what follows the delta: '","agentId":"...","agentType":"...","timestamp":'


cdef class Batch:
    cdef char* buffer           # malloc'd; NULL until the first chunk
    cdef Py_ssize_t capacity    # bytes of buffer
    cdef readonly Py_ssize_t size       # bytes used: the body so far, separators included
    cdef readonly Py_ssize_t count      # chunks in it

    # Counts one more chunk of `length` bytes, writes a separator where one is due; returns where the chunk's bytes go.
    # NULL: no memory, nothing changed.
    cdef char* extend(self, Py_ssize_t length) noexcept nogil


cdef class AppendFramer:
    cdef bytes head             # RESP of 'XADD key NOMKSTREAM', with the count of 10 arguments
    cdef bytes trim_head        # the same with 13 arguments and 'MINID ='
    cdef bytes publish_head     # RESP of 'PUBLISH channel', with the count of 3 arguments


cdef class Sequencer:
    cdef readonly uint64_t last     # last sequence known to be part of the stream
    cdef uint64_t flying            # length of the range in flight; 0: none


cdef class Window:
    cdef readonly uint64_t last     # sequence last seen
