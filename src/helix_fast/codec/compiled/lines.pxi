"""Stored bodies: newline separated chunks, cut apart or joined to one JSON array."""


cdef struct Span:               # the wanted part of a body
    const char* start
    const char* end
    uint64_t first              # sequence of the first wanted line
    Py_ssize_t count            # lines in it; 0: none, the rest is not set


cdef inline const char* line_end(const char* at, const char* end) noexcept nogil:
    cdef const char* found = <const char*> memchr(at, c"\n", <size_t> (end - at))
    return end if found == NULL else found


cdef int find_wanted(Span* span, object body, uint64_t last, uint64_t after) except -1:
    cdef const char* at = PyBytes_AS_STRING(body)
    cdef const char* end = at + PyBytes_GET_SIZE(body)
    cdef uint64_t count = 1
    cdef uint64_t skipped = 0
    span.start = at
    span.end = end
    span.count = 0
    if at == end:
        return 0
    while True:
        at = line_end(at, end)
        if at == end:
            break
        at += 1
        count += 1
    if count > last:
        raise ValueError(f"body has {count} lines, more than the sequences up to {last}")
    if after >= last:
        return 0
    span.first = last - count + 1
    if after >= span.first:
        skipped = after - span.first + 1
        span.first = after + 1
    span.count = <Py_ssize_t> (count - skipped)
    while skipped:
        span.start = line_end(span.start, end) + 1
        skipped -= 1
    return 0


def split_lines(body, last, after):
    """The chunks of a stored body after a sequence."""
    cdef Span span
    cdef const char* at
    cdef const char* end
    cdef Py_ssize_t index
    cdef list lines
    require_bytes(body, "body")
    find_wanted(&span, body, u64(last, "last"), u64(after, "after"))
    if span.count == 0:
        return last + 1, []
    lines = PyList_New(span.count)
    at = span.start
    for index in range(span.count):
        end = line_end(at, span.end)
        line = PyBytes_FromStringAndSize(at, end - at)
        Py_INCREF(line)
        PyList_SET_ITEM(lines, index, line)
        at = end + 1
    return span.first, lines


def join_lines(body, last, after):
    """The chunks of a stored body after a sequence, as one JSON array."""
    cdef Span span
    cdef Py_ssize_t index, length
    cdef const char* source
    cdef char* out
    cdef bytes array
    require_bytes(body, "body")
    find_wanted(&span, body, u64(last, "last"), u64(after, "after"))
    if span.count == 0:
        return last + 1, 0, b"[]"
    length = span.end - span.start
    array = PyBytes_FromStringAndSize(NULL, length + 2)
    source = span.start
    out = PyBytes_AS_STRING(array)
    out[0] = c"["
    out += 1
    # No branch inside: compilers turn this into a vector copy with a blend.
    for index in range(length):
        out[index] = c"," if source[index] == c"\n" else source[index]
    out[length] = c"]"
    return span.first, span.count, array
