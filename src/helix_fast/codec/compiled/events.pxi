"""Stored lines as server-sent events: nothing is decoded and encoded again.

An event is `id: `, a prefix, the sequence, `data: ` and the line. Lines of a ChunkEncoder are known by their form: a
string without unusual escapes, in valid UTF-8, between bytes that do not change. Other lines are left to the caller.
"""

cdef enum:
    EVENT_ROOM = 16             # of "id: ", "\ndata: " and "\n\n"


cdef struct Delta:              # the text of a line, as JSON writes it, without its quotes
    const char* start
    const char* end
    bint slashed                # it has the escape of a slash, which no encoder of ours writes


cdef const char* delta_end(Delta* delta, const char* at, const char* end) noexcept:
    """The closing quote of a JSON string in valid UTF-8 without unusual escapes; NULL for another one."""
    delta.start = at
    delta.slashed = False
    while True:
        at += clean_length(at, end - at)
        if at >= end:
            return NULL
        if at[0] == c'"':
            break
        if at[0] != c"\\" or end - at < 2 or not helix_unescape(at[1]):
            return NULL
        delta.slashed |= at[1] == c"/"
        at += 2
    delta.end = at
    return at if is_utf8(delta.start, at - delta.start) else NULL


cdef const char* stamp_end(const char* at) noexcept nogil:
    """The end of a number of at most 16 digits, none of them a needless zero; NULL where there is none."""
    cdef const char* digits = at
    # The NUL at the end of the body stops this too.
    while is_digit(at[0]) and at - digits <= MAX_EXACT_DIGITS:
        at += 1
    if at == digits or at - digits > MAX_EXACT_DIGITS or (digits[0] == c"0" and at - digits > 1):
        return NULL
    return at


cdef inline const char* object_end(const char* at, const char* end) noexcept nogil:
    """The end of a line whose last byte is a brace at this place; NULL for none."""
    if at == NULL or at[0] != c"}":
        return NULL
    return at + 1 if at + 1 == end or at[1] == c"\n" else NULL


cdef inline const char* after_constant(const char* at, const char* end, bytes constant) noexcept:
    """The place behind bytes that do not change; NULL where they are others, or the last of the body."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(constant)
    if end - at <= length or memcmp(at, PyBytes_AS_STRING(constant), <size_t> length) != 0:
        return NULL
    return at + length


cdef const char* text_line_end(ChunkEncoder encoder, const char* at, const char* end) noexcept:
    """The end of a line of this encoder; NULL for another line."""
    cdef Delta delta
    if end - at <= TEXT_HEAD_LENGTH or memcmp(at, TEXT_HEAD, TEXT_HEAD_LENGTH) != 0:
        return NULL
    at = delta_end(&delta, at + TEXT_HEAD_LENGTH, end)
    if at == NULL:
        return NULL
    at = after_constant(at, end, encoder.tail)
    if at != NULL:
        at = stamp_end(at)
    return object_end(at, end)


def frame_events(ChunkEncoder encoder not None, body, last, after, bytes prefix not None, limit):
    """Events of the lines that this encoder wrote, and the sequences of other lines in their places."""
    cdef Span span
    cdef Number number
    cdef const char* at
    cdef const char* line
    cdef const char* name = PyBytes_AS_STRING(prefix)
    cdef Py_ssize_t index, name_length = PyBytes_GET_SIZE(prefix), room
    cdef uint64_t most = u64(limit, "limit"), sequence
    cdef PyObject* made = NULL
    cdef char* out = NULL
    cdef char* start = NULL
    cdef list parts = []
    require_bytes(body, "body")
    find_wanted(&span, body, u64(last, "last"), u64(after, "after"))
    if span.count == 0:
        return last + 1, parts
    at = span.start
    sequence = span.first
    for index in range(span.count):
        line = at
        at = text_line_end(encoder, at, span.end)
        if at == NULL:
            if made != NULL:
                finished = helix_cut_bytes(made, out)
                made = NULL
                parts.append(finished)
            parts.append(sequence)
            at = line_end(line, span.end)
        else:
            if made == NULL:
                # Room for all lines that follow; what is not needed goes back when it is cut.
                room = span.end - line + (span.count - index) * (EVENT_ROOM + DIGITS + name_length)
                made = helix_new_bytes(NULL, room)
                start = out = helix_bytes(made)
            out = put(out, b"id: ", 4)
            out = put(out, name, name_length)
            write_number(&number, sequence)
            out = put_number(out, &number)
            out = put(out, b"\ndata: ", 7)
            out = put(out, line, at - line)
            out = put(out, b"\n\n", 2)
            if <uint64_t> (out - start) >= most:
                finished = helix_cut_bytes(made, out)
                made = NULL
                parts.append(finished)
        at += 1
        sequence += 1
    if made != NULL:
        finished = helix_cut_bytes(made, out)
        parts.append(finished)
    return span.first, parts


def frame_deltas(
    bytes line_head not None,
    bytes line_tail not None,
    body,
    last,
    after,
    bytes head not None,
    bytes middle,
    bytes tail not None,
    limit,
    bint join=False,
):
    """Events of the leading lines of one form, each with the line's text between bytes of the caller."""
    cdef Span span
    cdef Number number
    cdef Delta delta
    cdef const char* at
    cdef const char* found
    cdef Py_ssize_t tail_length = PyBytes_GET_SIZE(line_tail)
    cdef Py_ssize_t room = PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(tail)
    cdef Py_ssize_t count = 0
    # A tail that ends as a field without its value is followed by a number.
    cdef bint stamped = tail_length > 0 and PyBytes_AS_STRING(line_tail)[tail_length - 1] == c":"
    cdef uint64_t most = u64(limit, "limit")
    cdef PyObject* made = NULL
    cdef char* out = NULL
    cdef char* start = NULL
    if b"\n" in line_head or b"\n" in line_tail:
        raise ValueError("a line has no line break within")
    if middle is not None:
        room += DIGITS + PyBytes_GET_SIZE(middle)
    require_bytes(body, "body")
    find_wanted(&span, body, u64(last, "last"), u64(after, "after"))
    if span.count == 0:
        return last + 1, 0, b""
    at = span.start
    while count < span.count:
        found = after_constant(at, span.end, line_head)
        if found == NULL:
            break
        found = delta_end(&delta, found, span.end)
        if found == NULL or delta.start == delta.end or delta.slashed:
            break
        found = after_constant(found, span.end, line_tail)
        if found == NULL:
            break
        if stamped:
            found = stamp_end(found)
        found = object_end(found, span.end)
        if found == NULL:
            break
        if made == NULL:
            made = helix_new_bytes(NULL, span.end - at + (room if join else span.count * room))
            start = out = helix_bytes(made)
        if not join or out == start:
            out = put(out, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
            if middle is not None:
                write_number(&number, span.first + <uint64_t> count)
                out = put_number(out, &number)
                out = put(out, PyBytes_AS_STRING(middle), PyBytes_GET_SIZE(middle))
        out = put(out, delta.start, delta.end - delta.start)
        if not join:
            out = put(out, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
        at = found + 1
        count += 1
        if <uint64_t> (out - start) >= most:
            break
    if made == NULL:
        return span.first, 0, b""
    if join:
        out = put(out, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
    finished = helix_cut_bytes(made, out)
    return span.first, count, finished
