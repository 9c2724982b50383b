"""C declarations of the codec. Bodies are in `codec/compiled/*.pxi`, the contract is in `_codec.pyi`.

Pure classes: bytes and values in, values out. No attribute is a future, a lane, a topology or a loop.
    ChunkEncoder, BatchBuilder (encode), AppendFramer (frame), Sequencer, Window (sequence), ReplyCutter,
    StringArray (replies), Rollup (rollup)
Hot classes: the inner loop of appenders and readers. They call the objects that they get, import nothing, and decide no
policy (no retry, no timeout).
    Outbox, Write, Batch, FastAppend (append), RemoteSubscribers (subscribers), ChunkIterator, StreamEntry, PushBuffer
    (reader)

Neither kind does I/O or reads a clock, and there is no mutable C state outside these objects.
Free threading: ChunkEncoder, AppendFramer and StringArray are immutable. BatchBuilder and Rollup guard their memory
with the object's critical section; BatchBuilder runs no Python code inside it, and allocates bytes only. Sequencer and
Window hold numbers only: no race can free memory. The hot classes and ReplyCutter belong to the thread of their event
loop.
"""

from libc.stdint cimport int64_t, uint64_t

# ---------------------------------------------------------------- pure: chunks, frames, sequences

cdef enum:
    DIGITS = 20                 # decimal digits of the largest unsigned 64-bit integer
    MAX_DEPTH = 512             # levels of nesting that check_finite follows
    FIRST_CAPACITY = 1024       # bytes of a batch's first buffer: some eight chunks
    UNCOUNTED = 16384           # up to so many bytes of text with escapes get room for the worst case: six bytes each
    KEPT_CAPACITY = 262144      # take() frees a larger buffer, so one huge chunk does not pin its memory
    GIVEN_SIZE = 16384          # take() gives the buffer away, in place of a copy, from so many bytes on


cdef struct Number:             # a number as decimal text
    char text[DIGITS]           # right-aligned
    int start                   # index of the first digit


cdef struct Text:               # a str as UTF-8; the bytes belong to the str and live as long as it does
    const char* data
    Py_ssize_t length
    Py_ssize_t clean            # bytes before the first that JSON must escape
    Py_ssize_t room             # upper bound of its bytes in a JSON string; `length` if all is clean


cdef class ChunkEncoder:
    cdef readonly object agent_id, agent_type
    cdef bytes tail             # bytes behind the delta: '","agentId":"...","agentType":"...","timestamp":'


cdef class BatchBuilder:
    cdef bytes room             # its memory is the buffer; None until the first chunk
    cdef char* buffer
    cdef Py_ssize_t capacity    # bytes of buffer
    cdef Py_ssize_t usual       # capacity of the next buffer
    cdef readonly Py_ssize_t size       # bytes used: the body so far, separators included
    cdef readonly Py_ssize_t count      # chunks in it

    # Adds room for a chunk of `length` bytes, and a separator before it; returns the start of the room.
    # A caller that writes fewer bytes corrects `size`. NULL: MemoryError, nothing changed.
    cdef char* extend(self, Py_ssize_t length) except NULL
    cdef int append_text(self, ChunkEncoder encoder, const Text* text, uint64_t timestamp) except -1


cdef class AppendFramer:
    cdef readonly bytes channel
    cdef bytes head             # RESP of 'XADD key NOMKSTREAM', with the count of 10 arguments
    cdef bytes trim_head        # the same with 13 arguments and 'MINID ='
    cdef bytes publish_head     # RESP of 'PUBLISH channel', with the count of 3 arguments

    cdef readonly bytes catch_up_frame  # RESP of 'PUBLISH channel !'

    # Results of `xadd`, `xadd_pieces` and `publish`, for arguments that were checked.
    cdef bytes append_frame(self, uint64_t term, uint64_t first, uint64_t last, bytes body, bytes nonce, bytes min_id)
    cdef tuple append_pieces(self, uint64_t term, uint64_t first, uint64_t last, bytes body, bytes nonce, bytes min_id)
    cdef bytes push_frame(self, uint64_t term, uint64_t first, uint64_t last, bytes body)


cdef class Sequencer:
    cdef readonly uint64_t last     # last sequence known to be part of the stream
    cdef uint64_t in_flight         # length of the range in flight; 0: none


cdef class Window:
    cdef readonly uint64_t last     # sequence last seen


cdef class ReplyCutter:
    cdef char* buffer           # malloc'd; NULL until the first bytes
    cdef Py_ssize_t room        # bytes of buffer
    cdef Py_ssize_t start, end  # what was fed and not handed out
    cdef Py_ssize_t at          # where the values that are not seen yet begin
    cdef int64_t left           # so many of them the reply has still


cdef class StringArray:
    cdef bytes reply
    cdef const char* start      # of the first string
    cdef const char* stop       # the reply's end
    cdef Py_ssize_t count
    cdef readonly bytes first, last     # b"": there is none

    # Where the string of an index begins.
    cdef const char* place(self, Py_ssize_t index) noexcept nogil


# ---------------------------------------------------------------- hot: append, subscribers, reader

cdef class Outbox:
    cdef readonly list frames       # requests that leave in the next write, or pieces of one
    cdef readonly list slots        # who gets the reply to each
    cdef readonly list ready        # appenders to be asked for their frames by the next write
    cdef readonly Py_ssize_t size   # bytes of the frames
    cdef readonly int64_t requests  # put in so far
    cdef public bint scheduled      # the next write is scheduled: another frame needs no `wake`

    cdef bint put(self, object frame, object slot) except -1
    cdef int put_pieces(self, tuple pieces) except -1


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


cdef class RemoteSubscribers:
    cdef object presence
    cdef dict local             # channel -> its subscribers in this process
    cdef readonly bytes channel
    cdef public bint present
    cdef public Py_ssize_t pending, stale
    cdef object subscribe_epoch


cdef class FastAppend:
    cdef readonly RemoteSubscribers subscribers
    cdef public object stream_id, topology, lane, terms, failed, trouble, observed, make_future, call_soon
    cdef public object loop_closed
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

    # Send a request to the stream's server, by its lane if it is known.
    cdef int post(self, object frame, object slot, bint follow) except -1
    # READY: the next batch is sent on this turn of the event loop, or after `delay` seconds.
    cdef int join(self, double delay) except -1
    cdef int go_on(self) except -1
    # Whether a reader in this process got it.
    cdef bint publish(self, uint64_t first, uint64_t last, bytes body) except -1
    cdef bytes nonce_of_next(self)


cdef class ChunkIterator:
    cdef public list _items
    cdef public Py_ssize_t _index, _error_at
    cdef public PushBuffer _pushes      # None: there are none
    cdef public object _cursor, _binding, _running_loop
    cdef public bint _busy              # somebody waits for the next item

    cdef bint takes_pushes(self) except -1
    cdef bint take_push(self) except -1


cdef class StreamEntry:
    cdef readonly uint64_t term, first, last
    cdef readonly bytes body
    cdef public Py_ssize_t readers      # that it was delivered to, as far as they have not decoded it
    cdef public object decoded          # what one of them decoded, for the others


cdef class PushBuffer:
    cdef object __weakref__             # hubs hold it weakly
    cdef public bint live, stale, announce_on_read
    cdef public object waiter, decoder, loop
    cdef public double since            # when the wait began, on the loop's clock
    cdef public bint timed              # a timer runs that ends a wait
    cdef public bytes entry_id
    cdef public Window window
    cdef public list pending            # of StreamEntry
    cdef public Py_ssize_t pending_bytes

    cdef int wake_reader(self) except -1
    cdef int drop(self) except -1
    cdef int require_log(self) except -1
    cdef int put(self, StreamEntry entry) except -1
    cdef object begin_wait(self)
    cdef object take_next(self)


cdef class _Step:
    cdef ChunkIterator source   # None once it has ended
    cdef object waiting         # where no item was there: what is awaited, a push or the coroutine of `_advance`
    cdef bint for_push          # it is a push

    cdef void stop_waiting(self, ChunkIterator source) noexcept


# ---------------------------------------------------------------- pure: usage entries scanned and summed

cdef enum:
    MAX_DIGITS = 18             # of an integer that the scanner reads: two of them add up within 64 bits
    MAX_FRACTION = 200          # digits after a point
    SCAN_DEPTH = 64             # levels of nesting that the scanner follows
    USUAL = 0                   # the scanner's answers; the plain twin reads UNUSUAL entries
    UNUSUAL = 1


cdef enum:                      # types of a scanned value; ABSENT and ABSENT_NULL: no value
    ABSENT = 0
    ABSENT_NULL = 1
    INTEGER = 2
    REAL = 3
    STRING = 4
    TRUE = 5
    FALSE = 6
    OBJECT = 7
    OTHER_VALUE = 8


cdef enum:                      # fields of an entry that are read, in the order of helix_entry_fields
    KIND, TIME, STEP, MODEL, TOKENS_FIELD, TOOL_NAME, DURATION, SUCCESS, ERROR, AGENT_TYPE, SUB_SESSION, CUSTOM_TYPE
    CUSTOM_VALUE, COST, ENTRY_FIELDS


cdef enum:                      # integers of a group; of tools and sub-agents 0: successes, 1: failures
    PROMPT, COMPLETION, REASONING, CACHED, TOTAL, REASONING_INSIDE, CACHED_INSIDE
    WHOLE_SUM                   # integers among the values, durations or costs
    LOWEST, HIGHEST             # only among the large ones


cdef enum:                      # sections of names, numbered as in plain/sums.py
    TOKENS, TOOLS, SUB_AGENTS, CUSTOM, OTHER, CHILDREN


cdef enum:
    TOKEN_FIELDS = 5
    INTEGERS = 7
    NONE = 0                    # kinds of an entry's number
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


cdef struct Entry:              # the numbers that one entry adds
    int section
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


cdef struct Group:              # the sums of one name in one section
    char* name                  # malloc'd
    Py_ssize_t length
    uint64_t mixed              # hash of section and name
    int section
    int64_t count               # entries
    int64_t integers[WHOLE_SUM + 1]
    int64_t whole_count, low, high          # of integer values, durations or costs; low > high: none
    int64_t real_count
    double real_sum, real_rest, real_low, real_high     # of fractions; the rest corrects rounding


cdef class Rollup:
    cdef Group* groups          # in the order of their first entry
    cdef Py_ssize_t count       # groups used
    cdef Py_ssize_t* index      # open addressing: place -> group + 1, 0 where free
    cdef Py_ssize_t places      # of index, a power of two, at least twice `count`
    cdef dict large             # (group, integer) -> sums beyond 64 bits
    cdef readonly int64_t entry_count, malformed_count
    cdef int64_t first, last    # times; first > last: none

    # Index of the group of a name, or of a new one. The others add to groups, each entry whole or not at all.
    cdef Py_ssize_t find(self, int section, const char* name, Py_ssize_t length) except -1
    cdef int grow(self) except -1
    cdef int put_large(self, Py_ssize_t at, int field, object value) except -1
    cdef int put_integer(self, Py_ssize_t at, int field, int64_t value) except -1
    cdef void put_time(self, int64_t first, int64_t last) noexcept
    cdef int add_usual(self, const Entry* entry) except -1
    cdef int add_unusual(self, object reading) except -1
    cdef int merge_group(self, const Group* source) except -1
    cdef int restore_group(self, object sums) except -1
    cdef tuple export_group(self, Py_ssize_t at)
