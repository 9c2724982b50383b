"""Replies as the server wrote them (RESP2): where each one ends, and what is in those that have no need of objects."""


cdef enum:
    FIRST_REPLY_ROOM = 65536
    KEPT_REPLY_ROOM = 1048576       # a larger buffer is freed when it is empty


# Values of one reply, as in plain/replies.py: far more than a server sends, and no sum overflows.
cdef int64_t MOST_VALUES = <int64_t> 1 << 40


cdef const char* reply_length(const char* at, const char* end, char mark, Py_ssize_t* length) noexcept nogil:
    """The number behind `mark`, as in `$5`, with its line end; returns what follows. NULL: not that, or incomplete."""
    cdef Py_ssize_t value = 0
    cdef const char* start
    if at == end or at[0] != mark:
        return NULL
    at += 1
    start = at
    while at < end and is_digit(at[0]) and at - start < 12:
        value = value * 10 + (at[0] - c"0")
        at += 1
    if at == start or (start[0] == c"0" and at - start > 1) or end - at < 2 or at[0] != c"\r" or at[1] != c"\n":
        return NULL
    length[0] = value
    return at + 2


cdef const char* reply_string(const char* at, const char* end, const char** text, Py_ssize_t* length) noexcept nogil:
    """A bulk string; returns what follows. NULL: not that, or incomplete."""
    at = reply_length(at, end, c"$", length)
    if at == NULL or end - at - 2 < length[0] or at[length[0]] != c"\r" or at[length[0] + 1] != c"\n":
        return NULL
    text[0] = at
    return at + length[0] + 2


@cython.final
cdef class ReplyCutter:
    """Cuts what a server sends into replies. Owned by one thread."""

    def __cinit__(self):
        self.left = 1

    def __dealloc__(self):
        free(self.buffer)

    @property
    def size(self):
        """Bytes fed that are not part of a reply yet."""
        return self.end - self.start

    def feed(self, data not None):
        """Add received bytes."""
        cdef Py_ssize_t length, room
        cdef char* buffer
        require_bytes(data, "data")
        length = PyBytes_GET_SIZE(data)
        if self.start == self.end:
            self.start = self.at = self.end = 0
            if self.room > KEPT_REPLY_ROOM:
                free(self.buffer)
                self.buffer = NULL
                self.room = 0
        if self.end + length > self.room and self.start:
            memmove(self.buffer, self.buffer + self.start, <size_t> (self.end - self.start))
            self.at -= self.start
            self.end -= self.start
            self.start = 0
        if self.end + length > self.room:
            room = max(FIRST_REPLY_ROOM, 2 * (self.end + length))
            buffer = <char*> realloc(self.buffer, <size_t> room)
            if buffer == NULL:
                raise MemoryError
            self.buffer = buffer
            self.room = room
        memcpy(self.buffer + self.end, PyBytes_AS_STRING(data), <size_t> length)
        self.end += length

    def next(self):
        """The next whole reply, or None."""
        cdef const char* at = self.buffer + self.at
        cdef const char* end = self.buffer + self.end
        cdef const char* line
        cdef Py_ssize_t number
        while self.left:
            self.at = at - self.buffer
            if at == end:
                return None
            line = <const char*> memchr(at, c"\n", <size_t> (end - at))
            if at[0] == c"$" or at[0] == c"*":
                if line == NULL:
                    return None
                if line - at == 4 and at[1] == c"-" and at[2] == c"1" and at[3] == c"\r":
                    number = -1
                elif reply_length(at, end, at[0], &number) != line + 1:
                    raise ValueError("no reply: a length is malformed")
                if at[0] == c"*":
                    if number > 0:
                        self.left += number
                    if self.left > MOST_VALUES:
                        raise ValueError("no reply: it has too many values")
                elif number >= 0:
                    if end - line - 1 < number + 2:
                        return None
                    if line[number + 1] != c"\r" or line[number + 2] != c"\n":
                        raise ValueError("no reply: a string does not end where it should")
                    line += number + 2
            elif at[0] != c"+" and at[0] != c"-" and at[0] != c":":
                raise ValueError(f"no reply begins with byte {<unsigned char> at[0]}")
            elif line == NULL:
                return None
            self.left -= 1
            at = line + 1
        self.at = at - self.buffer
        reply = PyBytes_FromStringAndSize(self.buffer + self.start, self.at - self.start)
        self.start = self.at
        self.left = 1
        return reply

    def rest(self):
        """Take what was fed and is not part of a whole reply."""
        rest = PyBytes_FromStringAndSize(self.buffer + self.start, self.end - self.start)
        self.start = self.at = self.end = 0
        self.left = 1
        return rest


cdef inline const char* reply_word(const char* at, const char* end, const char* word, Py_ssize_t length) noexcept nogil:
    return at + length if end - at >= length and memcmp(at, word, <size_t> length) == 0 else NULL


cdef struct PageEntry:              # one entry of a page, if it is a usual one
    const char* id
    Py_ssize_t id_length
    const char* body
    Py_ssize_t length
    uint64_t sequence


cdef const char* usual_entry(const char* at, const char* end, PageEntry* entry) noexcept nogil:
    """The next entry of a page, as our writers store it; NULL for any other."""
    cdef const char* digits = NULL
    cdef const char* writer = NULL
    cdef Py_ssize_t length = 0
    at = reply_word(at, end, b"*2\r\n", 4)
    if at != NULL:
        at = reply_string(at, end, &entry.id, &entry.id_length)
    if at != NULL:
        at = reply_word(at, end, b"*6\r\n$5\r\nchunk\r\n", 15)
    if at != NULL:
        at = reply_string(at, end, &entry.body, &entry.length)
    if at != NULL:
        at = reply_word(at, end, b"$8\r\nsequence\r\n", 14)
    if at != NULL:
        at = reply_string(at, end, &digits, &length)
    if at != NULL:
        at = reply_word(at, end, b"$6\r\nwriter\r\n", 12)
    # The digits end in a carriage return.
    if at == NULL or length > MAX_EXACT_DIGITS or not entry.length:
        return NULL
    if parse_number(digits, digits + length + 1, c"\r", &entry.sequence) == NULL:
        return NULL
    return reply_string(at, end, &writer, &length)


cdef inline Py_ssize_t count_lines(const char* at, const char* end) noexcept nogil:
    cdef Py_ssize_t lines = 1
    while True:
        at = line_end(at, end)
        if at == end:
            return lines
        at += 1
        lines += 1


def merge_page(reply not None, last):
    """As `merge_entries`, of a reply to XRANGE that was not parsed."""
    require_bytes(reply, "reply")
    cdef uint64_t top = u64(last, "last")
    cdef const char* at
    cdef const char* end
    cdef const char* start
    cdef char* out
    cdef Py_ssize_t entries = 0, taken = 0, size = 0, index
    cdef PageEntry entry
    end = PyBytes_AS_STRING(reply) + PyBytes_GET_SIZE(reply)
    start = at = reply_length(PyBytes_AS_STRING(reply), end, c"*", &entries)
    if at == NULL:
        raise ValueError("no reply to XRANGE")
    first = newest = b""
    while taken < entries:
        at = usual_entry(at, end, &entry)
        if (
            at == NULL or entry.sequence <= top
            or entry.sequence - top != <uint64_t> count_lines(entry.body, entry.body + entry.length)
        ):
            break
        if taken == 0:
            first = PyBytes_FromStringAndSize(entry.id, entry.id_length)
        top = entry.sequence
        taken += 1
        size += entry.length + 1
    if taken == 0:
        return entries, 0, top, first, newest, b""
    body = PyBytes_FromStringAndSize(NULL, size - 1)
    out = PyBytes_AS_STRING(body)
    at = start
    for index in range(taken):
        at = usual_entry(at, end, &entry)
        if index:
            out[0] = c"\n"
            out += 1
        memcpy(out, entry.body, <size_t> entry.length)
        out += entry.length
    newest = PyBytes_FromStringAndSize(entry.id, entry.id_length)
    return entries, taken, top, first, newest, body


@cython.final
cdef class StringArray:
    """The strings of a reply that is an array of strings, which are not made into objects. Immutable."""

    def __init__(self, reply not None):
        cdef Py_ssize_t index
        cdef const char* at
        cdef const char* end
        cdef const char* text = NULL
        cdef Py_ssize_t length = 0
        require_bytes(reply, "reply")
        self.reply = reply
        end = self.stop = PyBytes_AS_STRING(self.reply) + PyBytes_GET_SIZE(self.reply)
        at = reply_length(PyBytes_AS_STRING(self.reply), end, c"*", &self.count)
        self.first = self.last = b""
        if at == NULL:
            raise ValueError("no array of strings")
        self.start = at
        for index in range(self.count):
            at = reply_string(at, end, &text, &length)
            if at == NULL:
                raise ValueError("no array of strings")
            if index == 0:
                self.first = PyBytes_FromStringAndSize(text, length)
        if at != end:
            raise ValueError("no array of strings")
        if self.count:
            self.last = PyBytes_FromStringAndSize(text, length)

    def __len__(self):
        return self.count

    cdef const char* place(self, Py_ssize_t index) noexcept nogil:
        cdef const char* at = self.start
        cdef const char* end = self.stop
        cdef const char* text = NULL
        cdef Py_ssize_t length = 0
        while index > 0:
            at = reply_string(at, end, &text, &length)
            index -= 1
        return at

    def strings(self, first=0):
        """The strings from an index on, as objects."""
        cdef Py_ssize_t index = max(0, first)
        cdef const char* at
        cdef const char* end = self.stop
        cdef const char* text = NULL
        cdef Py_ssize_t length = 0
        cdef list found = []
        if index >= self.count:
            return found
        at = self.place(index)
        for index in range(index, self.count):
            at = reply_string(at, end, &text, &length)
            found.append(PyBytes_FromStringAndSize(text, length))
        return found
