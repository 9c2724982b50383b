"""Shapes: entries of one recorder differ in their values only, so what stands between the values is compared whole.

A shape is learnt from an entry that the scanner has read. An entry that fits has the same keys in the same places, and
values of the same types: whatever the scanner has found out about the first is true of it. What does not fit to the
last byte (an escape, a longer number, another order of keys) is read by the scanner.
"""

cdef enum:
    SHAPES = 8                  # learnt in one call
    GAPS = 32                   # values of a shape
    SHAPE_VALUES = ENTRY_FIELDS + TOKEN_FIELDS + 1      # the last one: of every field that nobody counts
    SHAPE_TRIAL = 32            # entries after which shapes that seldom fit are no longer tried


cdef struct Gap:                # a value's place
    const char* before          # what stands between the value before and this one, its opening quote included
    Py_ssize_t length
    int type                    # STRING, INTEGER for any number, TRUE for a truth value, ABSENT at the end
    int target                  # of the shape's values


cdef struct Shape:              # its bytes belong to the entry that it was learnt from
    int gaps
    int after                   # the shape of the entry that came after one of this shape last
    Gap places[GAPS]
    Value values[SHAPE_VALUES]


cdef struct Shapes:
    int count
    int last                    # the shape that fitted last
    int tried, fitted
    Shape known[SHAPES]


cdef extern from *:
    """
    static inline int helix_same(const char *a, const char *b, Py_ssize_t length) {
        uint64_t x, y;
        if (length < 8)
            return memcmp(a, b, (size_t)length) == 0;
        for (; length > 8; a += 8, b += 8, length -= 8) {
            memcpy(&x, a, 8);
            memcpy(&y, b, 8);
            if (x != y)
                return 0;
        }
        memcpy(&x, a + length - 8, 8);
        memcpy(&y, b + length - 8, 8);
        return x == y;
    }
    """
    bint helix_same(const char* a, const char* b, Py_ssize_t length) noexcept nogil


cdef int field_named(const helix_field* fields, int count, const Value* key) noexcept nogil:
    """Index of a field; -1: nobody counts it."""
    cdef int index
    for index in range(count):
        if fields[index].length == key.length and memcmp(fields[index].name, key.start, <size_t> key.length) == 0:
            return index
    return -1


cdef bint learn_shape(Shape* shape, const char* data, Py_ssize_t length) noexcept nogil:
    """The shape of an entry that the scanner has read, and that counts for something; False where it has none."""
    cdef Cursor cursor
    cdef Value key, value
    cdef const char* before = data
    cdef Gap* gap
    cdef int depth = 0, index = -1
    cdef bint in_tokens = False, is_key = False
    cdef char mark
    shape.gaps = 0
    shape.after = 0
    for index in range(SHAPE_VALUES):
        shape.values[index].type = ABSENT
    index = -1
    cursor.at = data
    cursor.end = data + length
    while True:
        skip_space(&cursor)
        if shape.gaps == GAPS:
            return False
        gap = &shape.places[shape.gaps]
        gap.before = before
        if cursor.at == cursor.end:
            gap.length = cursor.end - before
            gap.type = ABSENT
            shape.gaps += 1
            return True
        mark = cursor.at[0]
        if mark == c"[" or (mark == c"{" and depth == 1 and index >= 0 and index != TOKENS_FIELD):
            return False
        if mark == c"{":
            depth += 1
            if depth == 2:
                in_tokens = index == TOKENS_FIELD
            is_key = True
            cursor.at += 1
        elif mark == c"}":
            depth -= 1
            is_key = False
            cursor.at += 1
        elif mark == c"," or mark == c":":
            is_key = mark == c","
            cursor.at += 1
        elif mark == c"n":
            cursor.at += 4          # null is as good as absent
        elif is_key:
            if scan_string(&cursor, &key) != USUAL:
                return False
            index = -1
            if depth == 1:
                index = field_named(helix_entry_fields, ENTRY_FIELDS, &key)
            elif in_tokens and depth == 2:
                index = field_named(helix_token_fields, TOKEN_FIELDS, &key)
                index = ENTRY_FIELDS + index if index >= 0 else -1
        elif index == KIND:
            # Not a gap: all entries of a shape are of one kind.
            if scan_value(&cursor, &shape.values[KIND], 0) != USUAL:
                return False
        else:
            gap.length = cursor.at - before + (mark == c'"')
            if scan_value(&cursor, &value, 0) != USUAL:
                return False
            gap.type = INTEGER if value.type == REAL else TRUE if value.type == FALSE else value.type
            gap.target = index if index >= 0 else SHAPE_VALUES - 1
            before = cursor.at - (mark == c'"')
            shape.gaps += 1


cdef bint fits(Shape* shape, const char* data, Py_ssize_t length) noexcept nogil:
    """Whether an entry has this shape; then its values are in those of the shape."""
    cdef Cursor cursor
    cdef const char* at = data
    cdef const char* end = data + length
    cdef uint64_t marks, word, high = 0
    cdef Gap* gap = shape.places
    cdef Value* value
    while True:
        if end - at < gap.length or not helix_same(at, gap.before, gap.length):
            return False
        at += gap.length
        value = &shape.values[gap.target]
        if gap.type == STRING:
            value.start = at
            while True:
                if end - at < 8:
                    while at < end and not helix_escape(<unsigned char> at[0]):
                        high |= <unsigned char> at[0] & 0x80
                        at += 1
                    break
                memcpy(&word, at, 8)
                marks = helix_escapes(at)
                high |= word & 0x8080808080808080ULL
                if marks:
                    at += helix_first(marks)
                    break
                at += 8
            if at == end or at[0] != c'"':
                return False
            value.type = STRING
            value.escaped = False
            value.length = at - value.start
        elif gap.type == INTEGER:
            if at == end:
                return False
            cursor.at = at
            cursor.end = end
            if scan_number(&cursor, value) != USUAL:
                return False
            at = cursor.at
        elif gap.type == TRUE:
            if end - at >= 4 and memcmp(at, b"true", 4) == 0:
                value.type = TRUE
                at += 4
            elif end - at >= 5 and memcmp(at, b"false", 5) == 0:
                value.type = FALSE
                at += 5
            else:
                return False
        else:
            # What stands between the values is that of a valid entry; a string may hold anything.
            return at == end and (not high or is_utf8(data, length))
        gap += 1


cdef Value* find_shape(Shapes* shapes, const char* data, Py_ssize_t length) noexcept nogil:
    """The values of an entry, by the first shape that it fits; NULL where the scanner must look."""
    cdef int guess, index
    if not shapes.count or (shapes.tried >= SHAPE_TRIAL and 2 * shapes.fitted < shapes.tried):
        return NULL
    shapes.tried += 1
    guess = shapes.known[shapes.last].after
    if not fits(&shapes.known[guess], data, length):
        for index in range(shapes.count):
            if index != guess and fits(&shapes.known[index], data, length):
                guess = index
                break
        else:
            return NULL
    shapes.fitted += 1
    shapes.known[shapes.last].after = guess
    shapes.last = guess
    return shapes.known[guess].values
