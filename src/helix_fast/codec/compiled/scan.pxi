"""A JSON scanner for usage entries: finds the fields that are counted, checks and skips the rest, makes no object.

It reads usual JSON. For all other entries, valid (escapes in keys and names, a known key twice, exponents of three
digits, integers beyond 18 digits, deep nesting, lone surrogates) or not, it returns UNUSUAL, and the plain twin reads
the entry. So the scanner may give up, but must never be wrong.
"""

from libc.math cimport INFINITY, fabs
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, malloc
from libc.string cimport memcmp, memset

from cpython.object cimport PyObject


cdef extern from *:
    """
    typedef struct { const char *name; Py_ssize_t length; } helix_field;
    #define HELIX_FIELD(name) {name, sizeof(name) - 1}
    /* In the order of the enums in _codec.pxd. */
    static const helix_field helix_entry_fields[] = {
        HELIX_FIELD("kind"), HELIX_FIELD("timestamp"), HELIX_FIELD("stepCount"), HELIX_FIELD("model"),
        HELIX_FIELD("tokens"), HELIX_FIELD("toolName"), HELIX_FIELD("durationMs"), HELIX_FIELD("success"),
        HELIX_FIELD("error"), HELIX_FIELD("agentType"), HELIX_FIELD("subSessionId"), HELIX_FIELD("type"),
        HELIX_FIELD("value"), HELIX_FIELD("cost"),
    };
    static const helix_field helix_token_fields[] = {
        HELIX_FIELD("prompt"), HELIX_FIELD("completion"), HELIX_FIELD("reasoning"), HELIX_FIELD("cached"),
        HELIX_FIELD("total"),
    };

    /* Reads decimal digits up to the end, eight at a time; the value is exact up to 19 of them. */
    static inline const char *helix_digits(const char *at, const char *end, uint64_t *value) {
        uint64_t whole = 0;
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        static const uint64_t powers[9] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
        while (end - at >= 8) {
            uint64_t x, others;
            int count;
            memcpy(&x, at, 8);
            x ^= 0x3030303030303030ULL;
            others = ((x + 0x7676767676767676ULL) | x) & 0x8080808080808080ULL; /* its lowest bit is exact */
            count = others ? helix_first(others) : 8;
            if (!count)
                break;
            x <<= 64 - 8 * count;
            x = x * 10 + (x >> 8);
            x = (((x & 0x000000ff000000ffULL) * 0x000f424000000064ULL)
                 + (((x >> 16) & 0x000000ff000000ffULL) * 0x0000271000000001ULL)) >> 32;
            whole = whole * powers[count] + x;
            at += count;
            if (count < 8) {
                *value = whole;
                return at;
            }
        }
    #endif
        while (at < end && *at >= '0' && *at <= '9')
            whole = whole * 10 + (uint64_t)(*at++ - '0');
        *value = whole;
        return at;
    }
    """
    const char* helix_digits(const char* at, const char* end, uint64_t* value) noexcept nogil
    ctypedef struct helix_field:
        const char* name
        Py_ssize_t length
    const helix_field* helix_entry_fields
    const helix_field* helix_token_fields


cdef inline void skip_space(Cursor* cursor) noexcept nogil:
    while cursor.at < cursor.end and (
        cursor.at[0] == c" " or cursor.at[0] == c"\n" or cursor.at[0] == c"\r" or cursor.at[0] == c"\t"
    ):
        cursor.at += 1


cdef inline bint is_digit(char letter) noexcept nogil:
    return c"0" <= letter <= c"9"


cdef inline int hex_digit(char letter) noexcept nogil:
    if is_digit(letter):
        return letter - c"0"
    letter = letter | 0x20
    return letter - c"a" + 10 if c"a" <= letter <= c"f" else -1


cdef int scan_string(Cursor* cursor, Value* value) noexcept nogil:
    """From the opening quote on. The value is the raw bytes between the quotes."""
    cdef const char* at = cursor.at + 1
    cdef const char* end = cursor.end
    cdef int digit
    value.type = STRING
    value.start = at
    value.escaped = False
    while True:
        at += clean_length(at, end - at)
        if at == end or <unsigned char> at[0] < 0x20:
            return UNUSUAL
        if at[0] == c'"':
            value.length = at - value.start
            cursor.at = at + 1
            return USUAL
        value.escaped = True
        if end - at < 2:
            return UNUSUAL
        if at[1] == c"u":
            # \uD800 to \uDFFF may be halves of pairs: the plain twin decides.
            if end - at < 6 or (at[2] | 0x20) == c"d":
                return UNUSUAL
            for digit in range(2, 6):
                if hex_digit(at[digit]) < 0:
                    return UNUSUAL
            at += 6
        elif memchr(b'"\\/bfnrt', at[1], 8) != NULL:
            at += 2
        else:
            return UNUSUAL


cdef inline int scan_number(Cursor* cursor, Value* value) noexcept nogil:
    cdef const char* at = cursor.at
    cdef const char* end = cursor.end
    cdef const char* digits
    cdef uint64_t whole
    cdef bint negative = at[0] == c"-"
    value.start = at
    if negative:
        at += 1
    digits = at
    at = helix_digits(at, end, &whole)
    if at == digits or (digits[0] == c"0" and at - digits > 1) or at - digits > MAX_DIGITS:
        return UNUSUAL
    value.type = INTEGER
    value.whole = -<int64_t> whole if negative else <int64_t> whole
    if at < end and at[0] == c".":
        value.type = REAL
        at += 1
        digits = at
        while at < end and is_digit(at[0]):
            at += 1
        if at == digits or at - digits > MAX_FRACTION:
            return UNUSUAL
    if at < end and (at[0] | 0x20) == c"e":
        # A small cost is written as 1.5e-05. Two digits cannot overflow.
        value.type = REAL
        at += 1
        if at < end and (at[0] == c"-" or at[0] == c"+"):
            at += 1
        digits = at
        while at < end and is_digit(at[0]):
            at += 1
        if at == digits or at - digits > 2:
            return UNUSUAL
    cursor.at = at
    return USUAL


cdef inline int scan_word(Cursor* cursor, Value* value, const char* word, Py_ssize_t length, int type) noexcept nogil:
    if cursor.end - cursor.at < length or memcmp(cursor.at, word, <size_t> length) != 0:
        return UNUSUAL
    value.type = type
    cursor.at += length
    return USUAL


cdef int scan_array(Cursor* cursor, Value* value, int depth) noexcept nogil:
    cdef Value element
    cdef char mark
    value.type = OTHER_VALUE
    cursor.at += 1
    skip_space(cursor)
    if cursor.at < cursor.end and cursor.at[0] == c"]":
        cursor.at += 1
        return USUAL
    while True:
        if scan_value(cursor, &element, depth + 1) != USUAL:
            return UNUSUAL
        skip_space(cursor)
        if cursor.at == cursor.end:
            return UNUSUAL
        mark = cursor.at[0]
        cursor.at += 1
        if mark == c"]":
            return USUAL
        if mark != c",":
            return UNUSUAL


cdef int scan_value(Cursor* cursor, Value* value, int depth) noexcept nogil:
    """Any value, after optional space. Of an object only the start is kept, of an array nothing."""
    cdef char first
    skip_space(cursor)
    if cursor.at == cursor.end or depth > SCAN_DEPTH:
        return UNUSUAL
    first = cursor.at[0]
    if first == c'"':
        return scan_string(cursor, value)
    if first == c"-" or is_digit(first):
        return scan_number(cursor, value)
    if first == c"{":
        value.type = OBJECT
        value.start = cursor.at
        return scan_object(cursor, NULL, 0, NULL, depth + 1)
    if first == c"[":
        return scan_array(cursor, value, depth)
    if first == c"t":
        return scan_word(cursor, value, b"true", 4, TRUE)
    if first == c"f":
        return scan_word(cursor, value, b"false", 5, FALSE)
    return scan_word(cursor, value, b"null", 4, ABSENT_NULL)


cdef int scan_object(
    Cursor* cursor, const helix_field* fields, int count, Value* values, int depth
) noexcept nogil:
    """From the opening brace on. Stores the values of the fields named in `fields` in `values`, which are ABSENT."""
    cdef Value key, other
    cdef Value* target
    cdef int index
    cdef char mark
    cursor.at += 1
    skip_space(cursor)
    if cursor.at < cursor.end and cursor.at[0] == c"}":
        cursor.at += 1
        return USUAL
    while True:
        skip_space(cursor)
        if cursor.at == cursor.end or cursor.at[0] != c'"' or scan_string(cursor, &key) != USUAL or key.escaped:
            return UNUSUAL
        skip_space(cursor)
        if cursor.at == cursor.end or cursor.at[0] != c":":
            return UNUSUAL
        cursor.at += 1
        target = &other
        for index in range(count):
            if fields[index].length == key.length and memcmp(fields[index].name, key.start, <size_t> key.length) == 0:
                if values[index].type != ABSENT:
                    return UNUSUAL
                target = &values[index]
                break
        if scan_value(cursor, target, depth) != USUAL:
            return UNUSUAL
        skip_space(cursor)
        if cursor.at == cursor.end:
            return UNUSUAL
        mark = cursor.at[0]
        cursor.at += 1
        if mark == c"}":
            return USUAL
        if mark != c",":
            return UNUSUAL


cdef bint is_utf8(const char* text, Py_ssize_t length) noexcept nogil:
    """Whether the bytes are UTF-8: shortest forms, no surrogates, nothing above U+10FFFF."""
    cdef const unsigned char* at = <const unsigned char*> text
    cdef const unsigned char* end = at + length
    cdef uint64_t word
    cdef unsigned char lead
    cdef int more, index
    while at < end:
        if end - at >= 8:
            memcpy(&word, at, 8)
            if not word & 0x8080808080808080ULL:
                at += 8
                continue
        lead = at[0]
        if lead < 0x80:
            at += 1
            continue
        if lead < 0xC2 or lead > 0xF4:
            return False
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if end - at <= more:
            return False
        if (
            (lead == 0xE0 and at[1] < 0xA0) or (lead == 0xED and at[1] > 0x9F)
            or (lead == 0xF0 and at[1] < 0x90) or (lead == 0xF4 and at[1] > 0x8F)
        ):
            return False
        for index in range(1, more + 1):
            if at[index] & 0xC0 != 0x80:
                return False
        at += more + 1
    return True


cdef int scan_entry(const char* data, Py_ssize_t length, Value* values) noexcept nogil:
    """Stores the known fields of one entry in `values`. UNUSUAL also if its kind is not a string without escapes."""
    cdef Cursor cursor
    cdef int index
    cursor.at = data
    cursor.end = data + length
    for index in range(ENTRY_FIELDS):
        values[index].type = ABSENT
    skip_space(&cursor)
    if cursor.at == cursor.end or cursor.at[0] != c"{":
        return UNUSUAL
    if scan_object(&cursor, helix_entry_fields, ENTRY_FIELDS, values, 0) != USUAL:
        return UNUSUAL
    skip_space(&cursor)
    if cursor.at != cursor.end or values[KIND].type != STRING or values[KIND].escaped or not is_utf8(data, length):
        return UNUSUAL
    return USUAL
