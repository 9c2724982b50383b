"""Chunks as JSON lines, and the batch that gathers them."""


cdef const char* TEXT_HEAD = b'{"type":"text_delta","delta":"'
cdef enum:
    TEXT_HEAD_LENGTH = 30


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
        """One `text_delta` as one line of JSON."""
        cdef Text text
        cdef Number stamp
        cdef PyObject* made
        read_text(&text, delta, "delta")
        write_number(&stamp, u64(timestamp, "timestamp"))
        made = helix_new_bytes(NULL, chunk_room(&text, self.tail, &stamp))
        return helix_cut_bytes(made, put_chunk(helix_bytes(made), &text, self.tail, &stamp))


@cython.final
cdef class BatchBuilder:
    """Builds the body of one stream entry from chunks, newline separated. Owned by one thread at a time."""

    def __cinit__(self):
        self.buffer = NULL
        self.usual = FIRST_CAPACITY

    cdef char* extend(self, Py_ssize_t length) except NULL:
        cdef Py_ssize_t separator = 1 if self.count else 0
        cdef Py_ssize_t needed, capacity
        cdef bytes grown
        if length > PY_SSIZE_T_MAX // 4 - self.size - separator:
            raise MemoryError
        needed = self.size + separator + length
        if needed > self.capacity:
            capacity = self.capacity if self.capacity else self.usual
            while capacity < needed:
                capacity *= 2
            grown = PyBytes_FromStringAndSize(NULL, capacity)
            put(PyBytes_AS_STRING(grown), self.buffer, self.size)
            self.room = grown
            self.buffer = PyBytes_AS_STRING(grown)
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
            self.size = put_chunk(out, text, encoder.tail, &stamp) - self.buffer
        return 0

    def add_text(self, ChunkEncoder encoder not None, delta, timestamp):
        """Append one `text_delta`; returns the new size."""
        cdef Text text
        read_text(&text, delta, "delta")
        self.append_text(encoder, &text, u64(timestamp, "timestamp"))
        return self.size

    def add(self, chunk):
        """Append one encoded chunk; returns the new size."""
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
            put(out, data, length)
            size = self.size
        return size

    def take(self):
        """Return the body and empty the batch."""
        cdef bytes room, body
        cdef Py_ssize_t capacity, size, count
        # The buffer leaves the object while Python allocates: that may let another thread into the critical section.
        with cython.critical_section(self):
            room, capacity, size, count = self.room, self.capacity, self.size, self.count
            self.room = None
            self.buffer = NULL
            self.capacity = self.size = self.count = 0
            if size >= GIVEN_SIZE and size >= capacity // 2:
                # A copy would cost as much as building the body has. The next body will be about as long.
                self.usual = size + size // 4
                helix_end_bytes(<PyObject*> room, size)
                return room
        try:
            body = PyBytes_FromStringAndSize(PyBytes_AS_STRING(room), size) if size else b""
            size = count = 0
        finally:
            # After a MemoryError the chunks go back; otherwise the empty buffer, for the next batch.
            with cython.critical_section(self):
                if self.buffer == NULL and room is not None and (count or capacity <= KEPT_CAPACITY):
                    self.room, self.buffer = room, PyBytes_AS_STRING(room)
                    self.capacity, self.size, self.count = capacity, size, count
        return body
