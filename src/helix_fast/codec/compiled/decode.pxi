"""Stored bytes to objects: the `text_delta` lines that a ChunkEncoder wrote, and the usual entries of a page.

It knows only the bytes that our own writers write, and leaves other lines and entries to the caller.
"""

from cpython.object cimport PyObject, PyTypeObject
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_SIZE, PyTuple_GetSlice, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8


cdef extern from *:
    """
    /* Whether a letter may follow a backslash (\\u aside), and what both stand for. */
    static inline char helix_unescape(char c) {
        switch (c) {
            case '"': case '\\\\': case '/': return c;
            case 'b': return '\\b';
            case 'f': return '\\f';
            case 'n': return '\\n';
            case 'r': return '\\r';
            case 't': return '\\t';
            default: return 0;
        }
    }

    /* Since 3.14 a tuple caches its hash; -1 means not computed yet, but the allocator leaves 0. */
    #if PY_VERSION_HEX >= 0x030E0000
    #define helix_forget_hash(made) (((PyTupleObject *)(made))->ob_hash = -1)
    #else
    #define helix_forget_hash(made) ((void)(made))
    #endif

    static inline int helix_is_tail(unsigned char c) {
        return (c & 0xc0) == 0x80;
    }

    /* UTF-8 to code points; `out` has room for one per byte. Returns their number, -1 for invalid UTF-8. */
    static inline Py_ssize_t helix_characters(Py_UCS4 *out, const char *text, Py_ssize_t length) {
        const unsigned char *at = (const unsigned char *)text, *end = at + length;
        const Py_UCS4 *start = out;
        while (at < end) {
            Py_UCS4 c = *at++;
            if (c >= 0xf0) {
                if (end - at < 3 || !helix_is_tail(at[0]) || !helix_is_tail(at[1]) || !helix_is_tail(at[2]))
                    return -1;
                c = (c & 0x0f) << 18 | (Py_UCS4)(at[0] & 0x3f) << 12 | (Py_UCS4)(at[1] & 0x3f) << 6 | (at[2] & 0x3f);
                if (c < 0x10000 || c > 0x10ffff)
                    return -1;
                at += 3;
            } else if (c >= 0xe0) {
                if (end - at < 2 || !helix_is_tail(at[0]) || !helix_is_tail(at[1]))
                    return -1;
                c = (c & 0x0f) << 12 | (Py_UCS4)(at[0] & 0x3f) << 6 | (at[1] & 0x3f);
                if (c < 0x800 || (c & 0xf800) == 0xd800)
                    return -1;
                at += 2;
            } else if (c >= 0x80) {
                if (c < 0xc2 || end == at || !helix_is_tail(at[0]))
                    return -1;
                c = (c & 0x1f) << 6 | (*at++ & 0x3f);
            }
            *out++ = c;
        }
        return out - start;
    }
    """
    Py_ssize_t helix_characters(Py_UCS4* out, const char* text, Py_ssize_t length) noexcept nogil
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t length)
    void helix_forget_hash(object made)
    char helix_unescape(char c) noexcept nogil
    object PyObject_Vectorcall(object make, PyObject** values, size_t flags, object names)
    object PyUnicode_New(Py_ssize_t length, Py_UCS4 largest)
    object PyType_GenericAlloc(PyTypeObject* type_of, Py_ssize_t places)
    bint PyObject_IS_GC(object value)
    bint PyType_Check(object value)
    bint PyType_IsSubtype(PyTypeObject* one, PyTypeObject* other)
    void PyObject_GC_UnTrack(object value)
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET


cdef enum:
    SHORT_TEXT = 4096           # a text with escapes of at most so many bytes is unescaped on the stack
    SHORT_UNICODE = 512         # a text beyond ASCII of at most so many bytes is decoded here
    MAX_EXACT_DIGITS = 16    # of sequences and timestamps: what readers in other languages hold exactly


cdef tuple TEXT_FIELDS = ("delta", "agent_id", "timestamp")
cdef tuple TYPED_TEXT_FIELDS = ("delta", "agent_id", "timestamp", "agent_type")


cdef object short_unicode(const char* text, Py_ssize_t length):
    # The interpreter guesses the kind and the length of a str and makes it anew where that was wrong: 40 ns a text.
    cdef Py_UCS4 characters[SHORT_UNICODE]
    cdef Py_ssize_t count = helix_characters(characters, text, length)
    return PyUnicode_FromKindAndData(4, characters, count) if count >= 0 else None


cdef object whole_text(const char* text, Py_ssize_t length):
    """UTF-8 as str; None for invalid UTF-8."""
    if length and is_ascii(text, length):
        plain = PyUnicode_New(length, 127)
        memcpy(PyUnicode_1BYTE_DATA(plain), text, <size_t> length)
        return plain
    if length <= SHORT_UNICODE:
        return short_unicode(text, length)
    try:
        return PyUnicode_DecodeUTF8(text, length, NULL)
    except UnicodeDecodeError:
        return None


cdef inline bint is_ascii(const char* text, Py_ssize_t length) noexcept nogil:
    cdef uint64_t one, two, seen = 0, more = 0
    cdef Py_ssize_t at = 0
    # Two words that do not wait for each other: compilers make one vector of them.
    while at + 16 <= length:
        memcpy(&one, text + at, 8)
        memcpy(&two, text + at + 8, 8)
        seen |= one
        more |= two
        at += 16
    seen |= more
    if at + 8 <= length:
        memcpy(&one, text + at, 8)
        seen |= one
        at += 8
    while at < length:
        seen |= <unsigned char> text[at]
        at += 1
    return not seen & 0x8080808080808080ULL


cdef Py_ssize_t unescape(char* out, const char** place, const char* end) noexcept nogil:
    """Copies a JSON string without its escapes and moves `place` to its closing quote.

    Returns the length, -1 for an unusual string. `out` has room for `end - place` bytes.
    """
    cdef const char* at = place[0]
    cdef const char* stop
    cdef char* start = out
    cdef uint64_t marks
    cdef int clean
    while True:
        if end - at >= HELIX_BLOCK:
            # The block is copied whole; bytes behind a mark are overwritten.
            memcpy(out, at, HELIX_BLOCK)
            marks = helix_marks(at)
            stop = at + HELIX_BLOCK
        elif at < end:
            out[0] = at[0]
            marks = 1 if helix_escape(<unsigned char> at[0]) else 0
            stop = at + 1
        else:
            return -1
        # All marks of a block are found at once: a search after each escape would wait for the search before.
        while marks:
            clean = helix_first_mark(marks)
            out += clean
            at += clean
            if at[0] == c'"':
                place[0] = at
                return out - start
            if at[0] != c"\\" or end - at < 2 or not helix_unescape(at[1]):
                return -1
            out[0] = helix_unescape(at[1])
            out += 1
            at += 2
            if end - at < HELIX_BLOCK:
                break
            memcpy(out, at, HELIX_BLOCK)
            marks = marks >> (HELIX_BITS * clean) >> 2 * HELIX_BITS
        else:
            if at < stop:       # the letter after the last backslash may belong to the next block
                out += stop - at
                at = stop


cdef object escaped_text(const char** place, const char* end):
    """The text of a JSON string with escapes, and `place` at its closing quote; None for an unusual string."""
    cdef char short_text[SHORT_TEXT]
    cdef char* text = short_text
    cdef Py_ssize_t length
    if end - place[0] > SHORT_TEXT:
        end = line_end(place[0], end)   # no room for all lines that follow
    if end - place[0] > SHORT_TEXT:
        text = <char*> malloc(<size_t> (end - place[0]))
        if text == NULL:
            raise MemoryError
    try:
        length = unescape(text, place, end)
        return None if length < 0 else whole_text(text, length)
    finally:
        if text != short_text:
            free(text)


cdef object read_text_line(ChunkEncoder encoder, object make, const char** place, const char* end):
    """A line of this encoder as an object, and `place` at its end; None for another line."""
    cdef PyObject* values[5]
    cdef uint64_t stamp = 0
    cdef Py_ssize_t tail = PyBytes_GET_SIZE(encoder.tail)
    cdef const char* at = place[0]
    cdef const char* quote
    if end - at <= TEXT_HEAD_LENGTH or memcmp(at, TEXT_HEAD, TEXT_HEAD_LENGTH) != 0:
        return None
    at += TEXT_HEAD_LENGTH
    quote = at + clean_length(at, end - at)
    if quote < end and quote[0] == c'"':
        delta = whole_text(at, quote - at)
    else:
        quote = at
        delta = escaped_text(&quote, end)
    if delta is None or end - quote <= tail or memcmp(quote, PyBytes_AS_STRING(encoder.tail), <size_t> tail) != 0:
        return None
    at = quote = quote + tail
    # The NUL at the end of the body stops this too.
    while is_digit(at[0]) and at - quote <= MAX_EXACT_DIGITS:
        stamp = stamp * 10 + <uint64_t> (at[0] - c"0")
        at += 1
    if at[0] != c"}" or at == quote or at - quote > MAX_EXACT_DIGITS or (quote[0] == c"0" and at - quote > 1):
        return None
    at += 1
    if at != end and at[0] != c"\n":
        return None
    place[0] = at
    timestamp: object = stamp
    values[1] = <PyObject*> delta
    values[2] = <PyObject*> encoder.agent_id
    values[3] = <PyObject*> timestamp
    values[4] = <PyObject*> encoder.agent_type
    return PyObject_Vectorcall(
        make, values + 1, PY_VECTORCALL_ARGUMENTS_OFFSET,
        TEXT_FIELDS if encoder.agent_type is None else TYPED_TEXT_FIELDS,
    )


def decode_texts(ChunkEncoder encoder not None, body, last, after, make):
    """Objects for the lines that this encoder wrote, None for other lines."""
    cdef Span span
    cdef const char* at
    cdef Py_ssize_t index, others = 0
    cdef list chunks = []
    require_bytes(body, "body")
    find_wanted(&span, body, u64(last, "last"), u64(after, "after"))
    if span.count == 0:
        return last + 1, chunks, 0
    at = span.start
    for index in range(span.count):
        chunk = read_text_line(encoder, make, &at, span.end)
        if chunk is None:
            others += 1
            at = line_end(at, span.end)
        chunks.append(chunk)
        at += 1
    return span.first, chunks, others


def number_chunks(make, chunks, first, epoch, term):
    """`[make((chunk, sequence, epoch, term)), ...]` for a subclass of tuple."""
    cdef uint64_t sequence = u64(first, "first")
    cdef PyTypeObject* type_of = <PyTypeObject*> make
    cdef list found = []
    cdef object values
    cdef bint plain
    if not isinstance(chunks, list):
        raise TypeError(f"chunks must be a list, not {type(chunks).__name__}")
    # No __new__ is called and there is no dict: the object is its four items, which are set here.
    if (
        not (PyType_Check(make) and PyType_IsSubtype(type_of, <PyTypeObject*> tuple))
        or make.__basicsize__ != tuple.__basicsize__ or make.__dictoffset__
    ):
        raise TypeError("make must be a subclass of tuple without attributes")
    if <uint64_t> PyList_GET_SIZE(chunks) > UINT64_MAX - sequence:
        raise OverflowError(f"the last sequence is above {UINT64_MAX}")
    plain = not PyObject_IS_GC(epoch) and not PyObject_IS_GC(term)
    for chunk in <list> chunks:
        values = PyType_GenericAlloc(type_of, 4)
        helix_forget_hash(values)
        number: object = sequence
        Py_INCREF(chunk)
        PyTuple_SET_ITEM(values, 0, chunk)
        Py_INCREF(number)
        PyTuple_SET_ITEM(values, 1, number)
        Py_INCREF(epoch)
        PyTuple_SET_ITEM(values, 2, epoch)
        Py_INCREF(term)
        PyTuple_SET_ITEM(values, 3, term)
        # It cannot be part of a reference cycle: one object less for the garbage collector.
        if not PyObject_IS_GC(chunk) and plain:
            PyObject_GC_UnTrack(values)
        found.append(values)
        sequence += 1
    return found


@cython.binding(True)  # a class takes it as a method
def iterate_but_last(values):
    """An iterator over all items of a tuple but the last."""
    if not PyTuple_Check(values):
        raise TypeError(f"values must be a tuple, not {type(values).__name__}")
    cdef Py_ssize_t count = PyTuple_GET_SIZE(values)
    return iter(PyTuple_GetSlice(values, 0, count - 1 if count else 0))


cdef inline bint is_word(object value, const char* word, Py_ssize_t length):
    return (
        type(value) is bytes and PyBytes_GET_SIZE(value) == length
        and memcmp(PyBytes_AS_STRING(value), word, <size_t> length) == 0
    )


def merge_entries(entries, last):
    """Join the bodies of the first entries of a page, as far as they are consecutive."""
    cdef uint64_t top = u64(last, "last"), sequence = 0, lines
    cdef Py_ssize_t taken = 0
    cdef const char* at
    cdef const char* end
    cdef list bodies = []
    if not isinstance(entries, list):
        raise TypeError(f"entries must be a list, not {type(entries).__name__}")
    for entry in <list> entries:
        if type(entry) is not list or len(<list> entry) != 2 or type((<list> entry)[1]) is not list:
            break
        fields = <list> (<list> entry)[1]
        if len(<list> fields) != 6:
            break
        body = (<list> fields)[1]
        digits = (<list> fields)[3]
        if (
            type(body) is not bytes or type(digits) is not bytes or not PyBytes_GET_SIZE(body)
            or PyBytes_GET_SIZE(digits) > MAX_EXACT_DIGITS
            or not is_word((<list> fields)[0], b"chunk", 5) or not is_word((<list> fields)[2], b"sequence", 8)
            or not is_word((<list> fields)[4], b"writer", 6)
        ):
            break
        # A bytes object ends in a NUL.
        at = PyBytes_AS_STRING(digits)
        end = at + PyBytes_GET_SIZE(digits) + 1
        if parse_number(at, end, 0, &sequence) != end or sequence <= top:
            break
        at = PyBytes_AS_STRING(body)
        end = at + PyBytes_GET_SIZE(body)
        lines = 1
        while True:
            at = line_end(at, end)
            if at == end:
                break
            at += 1
            lines += 1
        if sequence - top != lines:
            break
        bodies.append(body)
        top = sequence
        taken += 1
    return taken, top, bodies[0] if taken == 1 else b"\n".join(bodies)
