"""Stored lines as server-sent events: nothing is decoded and encoded again.

An event is `id: `, a prefix, the sequence, `data: ` and the line. Lines of a ChunkEncoder are known by their form: a
string without unusual escapes, in valid UTF-8, between bytes that do not change. Other lines are left to the caller.
"""

cdef enum:
    EVENT_ROOM = 16             # of "id: ", "\ndata: " and "\n\n"


cdef const char* text_line_end(ChunkEncoder encoder, const char* at, const char* end) noexcept:
    """The end of a line of this encoder; NULL for another line."""
    cdef Py_ssize_t tail = PyBytes_GET_SIZE(encoder.tail)
    cdef const char* start
    cdef const char* digits
    if end - at <= TEXT_HEAD_LENGTH or memcmp(at, TEXT_HEAD, TEXT_HEAD_LENGTH) != 0:
        return NULL
    at += TEXT_HEAD_LENGTH
    start = at
    while True:
        at += clean_length(at, end - at)
        if at >= end:
            return NULL
        if at[0] == c'"':
            break
        if at[0] != c"\\" or end - at < 2 or not helix_unescape(at[1]):
            return NULL
        at += 2
    if not is_utf8(start, at - start):
        return NULL
    if end - at <= tail or memcmp(at, PyBytes_AS_STRING(encoder.tail), <size_t> tail) != 0:
        return NULL
    at = digits = at + tail
    # The NUL at the end of the body stops this too.
    while is_digit(at[0]) and at - digits <= MAX_EXACT_DIGITS:
        at += 1
    if at[0] != c"}" or at == digits or at - digits > MAX_EXACT_DIGITS or (digits[0] == c"0" and at - digits > 1):
        return NULL
    at += 1
    return at if at == end or at[0] == c"\n" else NULL


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
