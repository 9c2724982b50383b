"""The codec's C declarations: the whole story of the hot path on one page.

Bodies are in `_codec.pyx` and the `.pxi` files that it includes, the contract is in `_codec.pyi`.
Nothing here does I/O or knows a clock. There is no mutable C state outside the objects below.
Free threading: ChunkEncoder and AppendFramer never change once made. BatchBuilder guards its buffer with the
object's critical
section, inside which no Python code runs and nothing is allocated by Python. Sequencer and Window hold numbers only: no
race can free memory.
"""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    DIGITS = 20                 # decimal digits of the largest unsigned 64-bit integer
    MAX_DEPTH = 512             # levels of nesting that check_finite follows
    FIRST_CAPACITY = 1024       # bytes of a batch's first buffer: some eight chunks
    UNCOUNTED = 16384           # bytes of text with escapes that get room for the worst: six bytes each
    KEPT_CAPACITY = 262144      # take() frees a larger buffer, so one huge chunk does not pin its memory


cdef struct Number:             # a number as decimal text
    char text[DIGITS]           # right-aligned
    int start                   # index of the first digit


cdef struct Text:               # a str as UTF-8; the bytes belong to the str and live as long as it does
    const char* data
    Py_ssize_t length
    Py_ssize_t clean            # bytes before the first that JSON wants escaped
    Py_ssize_t room             # bytes that it takes inside a JSON string at most; exactly `length` where all is clean


cdef class ChunkEncoder:
    cdef readonly object agent_id, agent_type
    cdef bytes tail             # what follows the delta: '","agentId":"...","agentType":"...","timestamp":'


cdef class BatchBuilder:
    cdef char* buffer           # malloc'd; NULL until the first chunk
    cdef Py_ssize_t capacity    # bytes of buffer
    cdef readonly Py_ssize_t size       # bytes used: the body so far, separators included
    cdef readonly Py_ssize_t count      # chunks in it

    # Counts one more chunk of `length` bytes, writes a separator where one is due; returns where the chunk's bytes go.
    # Who writes fewer puts `size` right. NULL: no memory, nothing changed.
    cdef char* extend(self, Py_ssize_t length) noexcept nogil
    cdef int append_text(self, ChunkEncoder encoder, const Text* text, uint64_t timestamp) except -1


cdef class AppendFramer:
    cdef readonly bytes channel
    cdef bytes head             # RESP of 'XADD key NOMKSTREAM', with the count of 10 arguments
    cdef bytes trim_head        # the same with 13 arguments and 'MINID ='
    cdef bytes publish_head     # RESP of 'PUBLISH channel', with the count of 3 arguments

    cdef readonly bytes look    # RESP of 'PUBLISH channel !'

    # What `xadd`, `publish` and `payload` return, their arguments checked.
    cdef bytes append_frame(self, uint64_t term, uint64_t first, uint64_t last, bytes body, bytes nonce, bytes min_id)
    cdef bytes push_frame(self, uint64_t term, uint64_t first, uint64_t last, bytes body)
    cdef bytes push_payload(self, uint64_t term, uint64_t first, uint64_t last, bytes body)


cdef class Sequencer:
    cdef readonly uint64_t last     # last sequence known to be part of the stream
    cdef uint64_t flying            # length of the range in flight; 0: none


cdef class Outbox:
    cdef readonly list frames       # requests that leave in the next write
    cdef readonly list slots        # who gets the reply to each
    cdef readonly list ready        # appenders to be asked for their frames by the next write
    cdef readonly Py_ssize_t size   # bytes of the frames
    cdef readonly int64_t requests  # put in so far
    cdef public bint scheduled      # the next write is: nobody need be told of another frame

    cdef bint put(self, object frame, object slot) except -1


cdef class Write:
    cdef public object owner, task, original, future
    cdef public bint fresh
    cdef public Py_ssize_t count, acked, lost
    cdef public uint64_t last

    cdef int stored(self, Py_ssize_t chunks, uint64_t last) except -1


cdef class Batch:
    cdef public bytes body, nonce
    cdef public Py_ssize_t count
    cdef public object only         # Write | None
    cdef public list several
    cdef public uint64_t first
    cdef public bint sent, doubtful


cdef class Listeners:
    cdef object audience
    cdef dict here              # channel -> who hears it in this process
    cdef readonly bytes channel
    cdef public bint elsewhere
    cdef public Py_ssize_t flying, stale
    cdef object changes


cdef class FastAppend:
    cdef readonly Listeners listeners
    cdef public object stream_id, topology, lane, terms, failed, trouble, observed, make_future, call_soon
    cdef public bytes nonce
    cdef readonly BatchBuilder open            # the buffer's
    cdef readonly Sequencer sequence    # the buffer's
    cdef readonly object batches        # the buffer's
    cdef readonly object flushes        # the buffer's
    cdef readonly object _buffer
    cdef readonly Batch single          # of the fast path, in flight; `buffer` hands it over
    cdef public AppendFramer framer
    cdef public int state               # of codec/states.py
    cdef public Py_ssize_t max_length, assisted_batches
    cdef readonly Py_ssize_t max_count
    cdef public int64_t generation, numbered
    cdef public uint64_t trimmed, trims
    cdef public double linger
    cdef public bint silent             # a publication was skipped, and a count of subscribers requested

    # To the stream's server, by the shortest way.
    cdef int post(self, object frame, object slot, bint follow) except -1
    # READY: the next batch is sent on this turn of the event loop, or after `delay` seconds.
    cdef int join(self, double delay) except -1
    cdef int go_on(self) except -1
    # Whether a reader in this process was given it.
    cdef bint publish(self, uint64_t first, uint64_t last, bytes body) except -1
    cdef bytes nonce_of_next(self)


cdef class Window:
    cdef readonly uint64_t last     # sequence last seen


cdef class Items:
    cdef public list _items
    cdef public Py_ssize_t _index, _clean


cdef class Inbox:
    cdef public bint closed, ended, live, dirty, joined
    cdef public object error, waiter, decoder, entry
    cdef public Window window
    cdef public list pushes
    cdef public Py_ssize_t pushed_bytes

    cdef int wake(self) except -1
    cdef int mark_dirty(self) except -1
    cdef bint taking(self) noexcept


cdef class _Step:
    cdef Items source           # None once it has ended
    cdef object waiting         # the coroutine, where nothing was at hand


# ---------------------------------------------------------------- usage: JSON scanned, sums kept

cdef enum:
    MAX_DIGITS = 18             # of an integer that the scanner reads: two of them add up within 64 bits
    MAX_FRACTION = 200          # digits after a point
    SCAN_DEPTH = 64             # levels of nesting that the scanner follows
    USUAL = 0                   # the scanner's answers; everything UNUSUAL is read by the plain twin
    UNUSUAL = 1


cdef enum:                      # types of a scanned value; up to ABSENT_NULL: there is none
    ABSENT = 0
    ABSENT_NULL = 1
    INTEGER = 2
    REAL = 3
    STRING = 4
    TRUE = 5
    FALSE = 6
    OBJECT = 7
    OTHER_VALUE = 8


cdef enum:                      # fields of an entry that are looked at, in the order of helix_entry_fields
    KIND, TIME, STEP, MODEL, TOKENS_FIELD, TOOL_NAME, DURATION, SUCCESS, ERROR, AGENT_TYPE, SUB_SESSION, CUSTOM_TYPE
    CUSTOM_VALUE, ENTRY_FIELDS


cdef enum:                      # what the integers of a slot add up; of tools and sub-agents 0: success, 1: failure
    PROMPT, COMPLETION, REASONING, CACHED, TOTAL, REASONING_INSIDE, CACHED_INSIDE
    WHOLE_SUM                   # integers among the values or durations
    LOWEST, HIGHEST             # only among the large ones


cdef enum:                      # groups of names, numbered as in plain/sums.py
    TOKENS, TOOLS, SUB_AGENTS, CUSTOM, OTHER, CHILDREN


cdef enum:
    TOKEN_FIELDS = 5
    INTEGERS = 7
    NONE = 0                    # what an entry's number is
    WHOLE = 1
    FRACTION = 2


cdef struct Cursor:
    const char* at
    const char* end


cdef struct Value:              # a scanned value; its bytes belong to the entry
    int type
    bint escaped                # a string with a backslash
    const char* start
    Py_ssize_t length           # of a string
    int64_t whole               # of an integer


cdef struct Entry:              # what one entry counts for
    int group
    const char* name
    Py_ssize_t name_length
    int64_t integers[INTEGERS]
    int counts                  # integers that are set
    int number                  # NONE, WHOLE, FRACTION
    int64_t whole
    double real
    char* number_end
    bint timed
    int64_t time
    const char* child           # id of a sub-agent's session
    Py_ssize_t child_length     # 0: none


cdef struct Slot:               # the sums of one name in one group
    char* name                  # malloc'd
    Py_ssize_t length
    uint64_t mixed              # hash of group and name
    int group
    int64_t count               # entries
    int64_t integers[WHOLE_SUM + 1]
    int64_t whole_count, low, high          # of integer values; low > high: none
    int64_t real_count
    double real_sum, real_rest, real_low, real_high     # of fractions, with what rounding has left over


cdef class Rollup:
    cdef Slot* slots            # in the order of their first entry
    cdef Py_ssize_t count       # slots used
    cdef Py_ssize_t* index      # open addressing: place -> slot + 1, 0 where free
    cdef Py_ssize_t places      # of index, a power of two, at least twice `count`
    cdef dict large             # (slot, integer) -> what 64 bits do not hold
    cdef readonly int64_t entry_count, malformed_count
    cdef int64_t first, last    # times; first > last: none

    # Slot of a name, made where there is none. Everything else is added by these, each entry whole.
    cdef Py_ssize_t find(self, int group, const char* name, Py_ssize_t length) except -1
    cdef int grow(self) except -1
    cdef int put_large(self, Py_ssize_t at, int field, object value) except -1
    cdef int put_integer(self, Py_ssize_t at, int field, int64_t value) except -1
    cdef void put_time(self, int64_t first, int64_t last) noexcept
    cdef int add_usual(self, const Entry* entry) except -1
    cdef int add_unusual(self, object reading) except -1
    cdef int merge_slot(self, const Slot* source) except -1
    cdef int restore_slot(self, object sums) except -1
    cdef tuple export_slot(self, Py_ssize_t at)
