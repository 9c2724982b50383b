# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic, autotestdict=False
"""The codec: chunks, entries and commands as bytes. Declarations are in `_codec.pxd`, the oracle is `codec/plain/`.

Bytes in, values out. No redis, no asyncio, no clock, no I/O may enter here: sequence and time are arguments.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_AsUnsignedLongLong, PyLong_Check, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy


cdef extern from "Python.h":
    """
    /* Gives back what a new bytes object has behind `end`; takes the reference over. */
    static inline PyObject *helix_cut_bytes(PyObject *made, const char *end) {
        const Py_ssize_t length = end - PyBytes_AS_STRING(made);
        if (length != PyBytes_GET_SIZE(made))
            _PyBytes_Resize(&made, length);
        return made;
    }
    """
    object helix_cut_bytes(PyObject* made, const char* end)
    PyObject* helix_new_bytes "PyBytes_FromStringAndSize" (const char* data, Py_ssize_t length) except NULL
    char* helix_bytes "PyBytes_AS_STRING" (PyObject* made) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void* PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) noexcept    # an int raises nothing here
    const Py_ssize_t PY_SSIZE_T_MAX


cdef const char* TEXT_HEAD = b'{"type":"text_delta","delta":"'
cdef enum:
    TEXT_HEAD_LENGTH = 30


# ---------------------------------------------------------------- arguments

cdef uint64_t rare_u64(object value, str name) except? 0xFFFFFFFFFFFFFFFF:
    """The upper half of the range, and all that is refused."""
    if not PyLong_Check(value) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    try:
        return PyLong_AsUnsignedLongLong(value)
    except OverflowError:
        raise OverflowError(f"{name} is outside 0..{UINT64_MAX}") from None


cdef inline uint64_t u64(object value, str name) except? 0xFFFFFFFFFFFFFFFF:
    # The signed conversion first: CPython's unsigned one goes through a byte array, 20 ns for a timestamp.
    cdef int overflow = 0
    cdef long long number
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if number >= 0:
            return <uint64_t> number
    return rare_u64(value, name)


cdef inline int require_bytes(object value, str name) except -1:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return 0


cdef inline int read_text(Text* out, object text, str name) except -1:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    if PyUnicode_IS_COMPACT_ASCII(text):
        out.data = <const char*> PyUnicode_1BYTE_DATA(text)
        out.length = PyUnicode_GET_LENGTH(text)
    else:
        out.data = PyUnicode_AsUTF8AndSize(text, &out.length)
    if out.length > PY_SSIZE_T_MAX // 8:    # six bytes a character at worst: only 32-bit machines can come here
        raise OverflowError(f"{name} is too long")
    out.clean = clean_length(out.data, out.length)
    # Counting what escapes add takes as long as writing them: where the worst is not much, room is made for that.
    out.room = out.length + (
        5 * (out.length - out.clean) if out.length - out.clean <= UNCOUNTED
        else escapes_add(out.data + out.clean, out.length - out.clean)
    )
    return 0


# ---------------------------------------------------------------- text

include "codec/compiled/escape.pxi"


cdef inline char* put_text(char* out, const Text* text) noexcept nogil:
    out = put(out, text.data, text.clean)
    if text.clean == text.length:
        return out
    return put_escaped(out, text.data + text.clean, text.length - text.clean)


cdef inline void write_number(Number* number, uint64_t value) noexcept nogil:
    cdef int at = DIGITS
    cdef uint32_t rest, high, low
    # Eight digits at a time: their divisions do not wait for each other, as those of a digit after a digit do.
    while value >= 100000000:
        rest = <uint32_t> (value % 100000000)
        value //= 100000000
        high = rest // 10000
        low = rest % 10000
        at -= 8
        memcpy(number.text + at, helix_pairs + 2 * (high // 100), 2)
        memcpy(number.text + at + 2, helix_pairs + 2 * (high % 100), 2)
        memcpy(number.text + at + 4, helix_pairs + 2 * (low // 100), 2)
        memcpy(number.text + at + 6, helix_pairs + 2 * (low % 100), 2)
    while value >= 100:
        rest = <uint32_t> (value % 100)
        value //= 100
        at -= 2
        memcpy(number.text + at, helix_pairs + 2 * rest, 2)
    if value >= 10:
        at -= 2
        memcpy(number.text + at, helix_pairs + 2 * value, 2)
    else:
        at -= 1
        number.text[at] = <char> (c"0" + value)
    number.start = at


cdef inline char* put_number(char* out, const Number* number) noexcept nogil:
    return put(out, number.text + number.start, DIGITS - number.start)


cdef inline char* put_length(char* out, char mark, uint64_t value) noexcept nogil:
    """A RESP length line: `$5` or `*3`."""
    cdef Number number
    write_number(&number, value)
    out[0] = mark
    out = put_number(out + 1, &number)
    return put(out, b"\r\n", 2)


cdef inline char* put_chunk(char* out, const Text* delta, bytes tail, const Number* stamp) noexcept:
    out = put(out, TEXT_HEAD, TEXT_HEAD_LENGTH)
    out = put_text(out, delta)
    out = put(out, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
    out = put_number(out, stamp)
    out[0] = c"}"
    return out + 1


cdef inline Py_ssize_t chunk_room(const Text* delta, bytes tail, const Number* stamp) noexcept:
    return TEXT_HEAD_LENGTH + delta.room + PyBytes_GET_SIZE(tail) + DIGITS - stamp.start + 1


cdef bytes escape(object text, str name):
    cdef Text source
    cdef PyObject* made
    read_text(&source, text, name)
    made = helix_new_bytes(NULL, source.room)
    return helix_cut_bytes(made, put_text(helix_bytes(made), &source))


@cython.final
cdef class ChunkEncoder:
    """Encodes one agent's `text_delta` chunks. Immutable; may be shared between threads."""

    def __cinit__(self, agent_id, agent_type=None):
        self.agent_id = agent_id
        self.agent_type = agent_type
        tail = b'","agentId":"' + escape(agent_id, "agent_id")
        if agent_type is not None:
            tail += b'","agentType":"' + escape(agent_type, "agent_type")
        self.tail = tail + b'","timestamp":'

    def encode_text(self, delta, timestamp):
        """One `text_delta` as one line of JSON; see the stub for the contract."""
        cdef Text text
        cdef Number stamp
        cdef PyObject* made
        read_text(&text, delta, "delta")
        write_number(&stamp, u64(timestamp, "timestamp"))
        made = helix_new_bytes(NULL, chunk_room(&text, self.tail, &stamp))
        return helix_cut_bytes(made, put_chunk(helix_bytes(made), &text, self.tail, &stamp))


@cython.final
cdef class BatchBuilder:
    """Chunks being gathered for one entry, newline separated. Owned by one thread at a time."""

    def __cinit__(self):
        self.buffer = NULL
        self.capacity = self.size = self.count = 0

    def __dealloc__(self):
        free(self.buffer)

    cdef char* extend(self, Py_ssize_t length) noexcept nogil:
        cdef Py_ssize_t separator = 1 if self.count else 0
        cdef Py_ssize_t needed, capacity
        cdef char* grown
        if length > PY_SSIZE_T_MAX - self.size - separator:
            return NULL
        needed = self.size + separator + length
        if needed > self.capacity:
            capacity = self.capacity if self.capacity else FIRST_CAPACITY
            while capacity < needed:
                capacity = capacity * 2 if capacity <= PY_SSIZE_T_MAX // 2 else needed
            grown = <char*> realloc(self.buffer, <size_t> capacity)
            if grown == NULL:
                return NULL
            self.buffer = grown
            self.capacity = capacity
        if separator:
            self.buffer[self.size] = c"\n"
        self.size = needed
        self.count += 1
        return self.buffer + needed - length

    cdef int append_text(self, ChunkEncoder encoder, const Text* text, uint64_t timestamp) except -1:
        cdef Number stamp
        cdef char* out
        write_number(&stamp, timestamp)
        with cython.critical_section(self):
            out = self.extend(chunk_room(text, encoder.tail, &stamp))
            if out != NULL:
                self.size = put_chunk(out, text, encoder.tail, &stamp) - self.buffer
        if out == NULL:
            raise MemoryError
        return 0

    def add_text(self, ChunkEncoder encoder not None, delta, timestamp):
        """Append one `text_delta`; the new size."""
        cdef Text text
        read_text(&text, delta, "delta")
        self.append_text(encoder, &text, u64(timestamp, "timestamp"))
        return self.size

    def add(self, chunk):
        """Append one encoded chunk; the new size."""
        cdef const char* data
        cdef char* out
        cdef Py_ssize_t length, size
        require_bytes(chunk, "chunk")
        data = PyBytes_AS_STRING(chunk)
        length = PyBytes_GET_SIZE(chunk)
        if length == 0:
            raise ValueError("chunk is empty")
        if memchr(data, c"\n", <size_t> length) != NULL:
            raise ValueError("chunk has a newline inside: it would be read as two")
        with cython.critical_section(self):
            out = self.extend(length)
            if out != NULL:
                put(out, data, length)
            size = self.size
        if out == NULL:
            raise MemoryError
        return size

    def take(self):
        """The body; the batch is empty afterwards."""
        cdef char* buffer
        cdef Py_ssize_t capacity, size, count
        # The buffer leaves the object while Python allocates: that may let another thread into the critical section.
        with cython.critical_section(self):
            buffer, capacity, size, count = self.buffer, self.capacity, self.size, self.count
            self.buffer = NULL
            self.capacity = self.size = self.count = 0
        try:
            body = PyBytes_FromStringAndSize(buffer, size)
            size = count = 0
        finally:
            # After a MemoryError the chunks go back; otherwise the empty buffer, for the next batch.
            with cython.critical_section(self):
                if self.buffer == NULL and (count or capacity <= KEPT_CAPACITY):
                    self.buffer, self.capacity, self.size, self.count = buffer, capacity, size, count
                    buffer = NULL
            free(buffer)
        return body


# ---------------------------------------------------------------- RESP

include "codec/compiled/frame.pxi"
include "codec/compiled/lines.pxi"
include "codec/compiled/decode.pxi"
include "codec/compiled/finite.pxi"
include "codec/compiled/sequence.pxi"
include "codec/compiled/reader.pxi"
include "codec/compiled/append.pxi"
include "codec/compiled/subscribers.pxi"
include "codec/compiled/scan.pxi"
include "codec/compiled/shape.pxi"
include "codec/compiled/entry.pxi"
include "codec/compiled/rollup.pxi"
