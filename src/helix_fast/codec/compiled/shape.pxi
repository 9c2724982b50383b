"""Shapes: entries of one recorder differ only in their values, so the bytes between the values are compared whole.

A shape is learnt from an entry that the scanner has read. An entry that fits has the same keys in the same places and
values of the same types, so all that the scanner found out about the first entry is true of it. An entry that differs
in one other byte (an escape, a longer number, another order of keys) is read by the scanner.
"""

cdef enum:
    SHAPES = 8                  # learnt in one call
    GAPS = 32                   # values of a shape
    SHAPE_VALUES = ENTRY_FIELDS + TOKEN_FIELDS + 1      # the last one: of all fields that are not counted
    SHAPE_TRIAL = 32            # entries after which shapes that seldom fit are no longer tried


cdef struct Gap:                # a value's place
    const char* before          # bytes between the value before and this one, with its opening quote
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
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* Up to eight bytes as a word. */
    static inline uint64_t helix_word(const char *p, Py_ssize_t length) {
        uint64_t word = 0;
        uint32_t low, high;
        if (length >= 8) {
            memcpy(&word, p, 8);
        } else if (length >= 4) {
            memcpy(&low, p, 4);
            memcpy(&high, p + length - 4, 4);
            word = low | (uint64_t)high << 32;
        } else {
            while (length > 0)
                word = word << 8 | (unsigned char)p[--length];
        }
        return word;
    }

    static inline int helix_same(const char *a, const char *b, Py_ssize_t length) {
        if (length < 8)
            return helix_word(a, length) == helix_word(b, length);
        for (; length > 8; a += 8, b += 8, length -= 8)
            if (helix_word(a, 8) != helix_word(b, 8))
                return 0;
        return helix_word(a + length - 8, 8) == helix_word(b + length - 8, 8);
    }

    /* The end of a string's plain part: what JSON wants escaped, or `end`. Marks bytes beyond ASCII in `high`. */
    static inline const char *helix_plain(const char *at, const char *end, uint64_t *high) {
        uint64_t word, marks;
    #if defined(__SSE2__)
        while (end - at >= 16) {
            const __m128i x = _mm_loadu_si128((const __m128i *)at);
            const __m128i found = _mm_or_si128(
                _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8(0x22)), _mm_cmpeq_epi8(x, _mm_set1_epi8(0x5c))),
                _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x));
            const int at_marks = _mm_movemask_epi8(found);
            *high |= (uint64_t)_mm_movemask_epi8(x);
            if (at_marks) {
    #if defined(_MSC_VER)
                unsigned long first;
                _BitScanForward(&first, (unsigned long)at_marks);
                return at + first;
    #else
                return at + __builtin_ctz((unsigned)at_marks);
    #endif
            }
            at += 16;
        }
    #endif
        while (end - at >= 8) {
            memcpy(&word, at, 8);
            marks = helix_escapes(at);
            *high |= word & 0x8080808080808080ULL;
            if (marks)
                return at + helix_first(marks);
            at += 8;
        }
        for (; at < end && !helix_escape((unsigned char)*at); at++)
            *high |= (unsigned char)*at & 0x80;
        return at;
    }
    """
    uint64_t helix_word(const char* p, Py_ssize_t length) noexcept nogil
    const char* helix_plain(const char* at, const char* end, uint64_t* high) noexcept nogil
    bint helix_same(const char* a, const char* b, Py_ssize_t length) noexcept nogil


cdef int field_named(const helix_field* fields, int count, const Value* key) noexcept nogil:
    """Index of a field; -1: it is not counted."""
    cdef int index
    for index in range(count):
        if fields[index].length == key.length and memcmp(fields[index].name, key.start, <size_t> key.length) == 0:
            return index
    return -1


cdef bint learn_shape(Shape* shape, const char* data, Py_ssize_t length) noexcept nogil:
    """The shape of an entry that the scanner has read and that is counted; False: it has none."""
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
    """Whether an entry has this shape; its values are then in `shape.values`."""
    cdef Cursor cursor
    cdef const char* at = data
    cdef const char* end = data + length
    cdef const char* digits
    cdef uint64_t whole, high = 0
    cdef Gap* gap = shape.places
    cdef Value* value
    while True:
        if end - at < gap.length or not helix_same(at, gap.before, gap.length):
            return False
        at += gap.length
        value = &shape.values[gap.target]
        if gap.type == STRING:
            value.start = at
            at = helix_plain(at, end, &high)
            if at == end or at[0] != c'"':
                return False
            value.type = STRING
            value.escaped = False
            value.length = at - value.start
        elif gap.type == INTEGER:
            digits = at
            at = helix_digits(at, end, &whole)
            if (
                0 < at - digits <= MAX_DIGITS and (digits[0] != c"0" or at - digits == 1)
                and at[0] != c"." and (at[0] | 0x20) != c"e"
            ):
                value.type = INTEGER
                value.whole = <int64_t> whole
            else:
                cursor.at = digits
                cursor.end = end
                if digits == end or scan_number(&cursor, value) != USUAL:
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
            # The bytes between the values are those of a valid entry; only strings may hold invalid UTF-8.
            return at == end and (not high or is_utf8(data, length))
        gap += 1


cdef Value* find_shape(Shapes* shapes, const char* data, Py_ssize_t length) noexcept nogil:
    """The values of an entry by the first shape that it fits; NULL: the scanner must read it."""
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
