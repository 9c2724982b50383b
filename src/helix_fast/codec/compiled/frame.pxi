"""RESP of appends, publications and commands, and the reading of published payloads."""


cdef enum:
    LINE = DIGITS + 3           # a RESP length line at its longest: mark, digits, CRLF
    POSITION = 3 * DIGITS + 3   # what stands before the body of a publication, at its longest
    BEFORE = 3 * LINE + 2 * DIGITS + 16     # more than `put_before` writes
    AFTER = 2 * LINE + DIGITS + 48          # more than `put_after` writes


cdef inline char* put_length(char* out, char mark, uint64_t value) noexcept nogil:
    """A RESP length line: `$5` or `*3`."""
    cdef Number number
    write_number(&number, value)
    out[0] = mark
    out = put_number(out + 1, &number)
    return put(out, b"\r\n", 2)


cdef bytes bulk(bytes part):
    return b"$%d\r\n%b\r\n" % (len(part), part)


cdef inline int check_push(uint64_t first, uint64_t last, object body) except -1:
    require_bytes(body, "body")
    if last < first:
        raise ValueError("last is below first")
    return 0


cdef char* put_position(char* out, uint64_t term, uint64_t first, uint64_t last) noexcept nogil:
    """`<term>-<first>:<last>` and a line end."""
    cdef Number number
    write_number(&number, term)
    out = put_number(out, &number)
    out[0] = c"-"
    write_number(&number, first)
    out = put_number(out + 1, &number)
    out[0] = c":"
    write_number(&number, last)
    out = put_number(out + 1, &number)
    out[0] = c"\n"
    return out + 1


cdef inline int check_append(uint64_t first, uint64_t count, object body, object nonce, object min_id) except -1:
    require_bytes(body, "body")
    require_bytes(nonce, "nonce")
    if min_id is not None:
        require_bytes(min_id, "min_id")
    if first < 1 or count < 1:
        raise ValueError("first and count must be at least 1")
    if count - 1 > UINT64_MAX - first:
        raise OverflowError(f"the last sequence is above {UINT64_MAX}")
    return 0


cdef inline char* put_before(char* out, uint64_t term, uint64_t first, Py_ssize_t length) noexcept nogil:
    """What stands between the head of an append and its body: the id, the name of the field, the body's length."""
    cdef Number term_text, first_text
    write_number(&term_text, term)
    write_number(&first_text, first)
    out = put_length(out, c"$", 2 * DIGITS - term_text.start - first_text.start + 1)
    out = put_number(out, &term_text)
    out[0] = c"-"
    out = put_number(out + 1, &first_text)
    out = put(out, b"\r\n$5\r\nchunk\r\n", 13)
    return put_length(out, c"$", length)


cdef inline char* put_after(char* out, uint64_t last, Py_ssize_t nonce_length) noexcept nogil:
    """What stands between the body of an append and its nonce."""
    cdef Number last_text
    write_number(&last_text, last)
    out = put(out, b"\r\n$8\r\nsequence\r\n", 16)
    out = put_length(out, c"$", DIGITS - last_text.start)
    out = put_number(out, &last_text)
    out = put(out, b"\r\n$6\r\nwriter\r\n", 14)
    return put_length(out, c"$", nonce_length)


@cython.final
cdef class AppendFramer:
    """RESP of one stream's appends. Immutable; may be shared between threads."""

    def __cinit__(self, key, channel, publish=b"PUBLISH"):
        require_bytes(key, "key")
        require_bytes(channel, "channel")
        require_bytes(publish, "publish")
        head = bulk(b"XADD") + bulk(key) + bulk(b"NOMKSTREAM")
        self.channel = channel
        self.head = b"*10\r\n" + head
        self.trim_head = b"*13\r\n" + head + bulk(b"MINID") + bulk(b"=")
        self.publish_head = b"*3\r\n" + bulk(publish) + bulk(channel)
        self.catch_up_frame = self.publish_head + bulk(b"!")

    def xadd(self, term, first, count, body, nonce, min_id=None):
        """RESP of the `XADD` that appends one batch."""
        cdef uint64_t number = u64(term, "term"), start = u64(first, "first"), length = u64(count, "count")
        check_append(start, length, body, nonce, min_id)
        return self.append_frame(number, start, start + length - 1, body, nonce, min_id)

    def xadd_pieces(self, term, first, count, body, nonce, min_id=None):
        """The same in pieces: what stands before the body, the body itself, and what stands behind it."""
        cdef uint64_t number = u64(term, "term"), start = u64(first, "first"), length = u64(count, "count")
        check_append(start, length, body, nonce, min_id)
        return self.append_pieces(number, start, start + length - 1, body, nonce, min_id)

    cdef bytes append_frame(
        self, uint64_t term, uint64_t first, uint64_t last, bytes body, bytes nonce, bytes min_id
    ):
        cdef char before[BEFORE]
        cdef char after[AFTER]
        cdef char* middle = put_before(before, term, first, PyBytes_GET_SIZE(body))
        cdef char* end = put_after(after, last, PyBytes_GET_SIZE(nonce))
        cdef bytes head = self.head if min_id is None else self.trim_head + bulk(min_id)
        cdef bytes frame = PyBytes_FromStringAndSize(
            NULL, PyBytes_GET_SIZE(head) + (middle - before) + PyBytes_GET_SIZE(body) + (end - after)
            + PyBytes_GET_SIZE(nonce) + 2
        )
        cdef char* out = put(PyBytes_AS_STRING(frame), PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        out = put(out, before, middle - before)
        out = put(out, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        out = put(out, after, end - after)
        out = put(out, PyBytes_AS_STRING(nonce), PyBytes_GET_SIZE(nonce))
        put(out, b"\r\n", 2)
        return frame

    cdef tuple append_pieces(
        self, uint64_t term, uint64_t first, uint64_t last, bytes body, bytes nonce, bytes min_id
    ):
        cdef char before[BEFORE]
        cdef char after[AFTER]
        cdef bytes head = self.head if min_id is None else self.trim_head + bulk(min_id)
        head += before[:put_before(before, term, first, PyBytes_GET_SIZE(body)) - before]
        return head, body, after[:put_after(after, last, PyBytes_GET_SIZE(nonce)) - after] + nonce + b"\r\n"

    def publish(self, term, first, last, body):
        """RESP of the publication of one batch."""
        cdef uint64_t number = u64(term, "term"), start = u64(first, "first"), stop = u64(last, "last")
        check_push(start, stop, body)
        return self.push_frame(number, start, stop, body)

    cdef bytes push_frame(self, uint64_t term, uint64_t first, uint64_t last, bytes body):
        cdef char position[POSITION]
        cdef char line[LINE]
        cdef char* end = put_position(position, term, first, last)
        cdef char* line_end
        cdef char* out
        cdef bytes frame
        line_end = put_length(line, c"$", (end - position) + PyBytes_GET_SIZE(body))
        frame = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(self.publish_head) + (line_end - line)
                                          + (end - position) + PyBytes_GET_SIZE(body) + 2)
        out = put(PyBytes_AS_STRING(frame), PyBytes_AS_STRING(self.publish_head), PyBytes_GET_SIZE(self.publish_head))
        out = put(out, line, line_end - line)
        out = put(out, position, end - position)
        out = put(out, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        put(out, b"\r\n", 2)
        return frame


cdef object as_argument(object value):
    if isinstance(value, (bytes, str)):
        return value
    cdef Number number
    if PyLong_CheckExact(value) and 0 <= value <= UINT64_MAX:
        write_number(&number, u64(value, "argument"))
        return PyBytes_FromStringAndSize(number.text + number.start, DIGITS - number.start)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value).encode("ascii")
    if isinstance(value, float):
        return float.__repr__(value).encode("ascii")
    raise TypeError(f"a command argument must be bytes, str, int or float, not {type(value).__name__}")


cdef inline int argument_span(object part, const char** data, Py_ssize_t* length) except -1:
    if isinstance(part, bytes):
        data[0] = PyBytes_AS_STRING(part)
        length[0] = PyBytes_GET_SIZE(part)
    elif PyUnicode_IS_COMPACT_ASCII(part):
        data[0] = <const char*> PyUnicode_1BYTE_DATA(part)
        length[0] = PyUnicode_GET_LENGTH(part)
    else:
        data[0] = PyUnicode_AsUTF8AndSize(part, length)
    return 0


def frame_command(args):
    """A command as RESP."""
    cdef tuple parts
    cdef bytes frame
    cdef const char* data = NULL
    cdef Py_ssize_t length = 0, total
    cdef char line[LINE]
    cdef char* out
    if isinstance(args, (str, bytes)):
        raise TypeError(f"args must be a sequence of arguments, not {type(args).__name__}")
    parts = tuple(args)
    if not parts:
        raise ValueError("a command needs at least its name")
    for part in parts:
        if not isinstance(part, (bytes, str)):
            parts = tuple([as_argument(value) for value in parts])
            break
    total = put_length(line, c"*", len(parts)) - line
    for part in parts:
        argument_span(part, &data, &length)
        if length > PY_SSIZE_T_MAX - LINE - 2 - total:
            raise OverflowError("the command is too long")
        total += put_length(line, c"$", length) - line + length + 2
    frame = PyBytes_FromStringAndSize(NULL, total)
    out = put_length(PyBytes_AS_STRING(frame), c"*", len(parts))
    for part in parts:
        argument_span(part, &data, &length)
        out = put_length(out, c"$", length)
        out = put(out, data, length)
        out = put(out, b"\r\n", 2)
    return frame


cdef const char* parse_number(const char* at, const char* end, char stop, uint64_t* value) noexcept nogil:
    """Reads a canonical decimal and the character after it. Returns what follows; NULL: malformed."""
    cdef const char* start = at
    cdef uint64_t digit
    value[0] = 0
    while at < end and c"0" <= at[0] <= c"9":
        digit = <uint64_t> (at[0] - c"0")
        if value[0] > (UINT64_MAX - digit) // 10:
            return NULL
        value[0] = value[0] * 10 + digit
        at += 1
    if at == start or at == end or at[0] != stop or (start[0] == c"0" and at - start > 1):
        return NULL
    return at + 1


cdef const char* parse_position(bytes payload, uint64_t* term, uint64_t* first, uint64_t* last):
    """Reads what stands before the body of a published payload; returns where that begins, NULL: malformed."""
    cdef const char* at = PyBytes_AS_STRING(payload)
    cdef const char* end = at + PyBytes_GET_SIZE(payload)
    at = parse_number(at, end, c"-", term)
    if at != NULL:
        at = parse_number(at, end, c":", first)
    if at != NULL:
        at = parse_number(at, end, c"\n", last)
    if at == NULL or last[0] < first[0]:
        return NULL
    return at


def parse_push(payload):
    """(term, first, last, body) of a published payload."""
    cdef uint64_t term = 0, first = 0, last = 0
    cdef const char* body
    require_bytes(payload, "payload")
    body = parse_position(payload, &term, &first, &last)
    if body == NULL:
        raise ValueError("malformed push payload")
    return term, first, last, PyBytes_FromStringAndSize(
        body, PyBytes_AS_STRING(payload) + PyBytes_GET_SIZE(payload) - body
    )
