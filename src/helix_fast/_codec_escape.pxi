"""What JSON wants escaped in text: found and written, eight bytes at a time."""


cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    #endif
    /* What JSON wants escaped: controls, quote, backslash. 'u': as \\u00XX; else the letter after the backslash. */
    static const char helix_control_escapes[33] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    static const char helix_hex_digits[17] = "0123456789abcdef";
    static const char helix_pairs[201] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

    /* Bytes that escaping adds: a table, since no branch on text can be foretold. */
    static const unsigned char helix_more[256] = {
        5, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 5, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5,
        ['"'] = 1, ['\\\\'] = 1
    };

    static inline char helix_escape(unsigned char c) {
        return c < 0x20 ? helix_control_escapes[c] : (c == '"' || c == '\\\\') ? (char)c : 0;
    }

    /* The highest bit of each byte of a word that is 0; exact, where the usual trick is so for the lowest one only. */
    static inline uint64_t helix_zeros(uint64_t x) {
        const uint64_t low = 0x7f7f7f7f7f7f7f7fULL;
        return ~(((x & low) + low) | x | low);
    }

    /* The same for those of eight bytes that JSON wants escaped. */
    static inline uint64_t helix_escapes(const char *p) {
        const uint64_t ones = 0x0101010101010101ULL;
        uint64_t x;
        memcpy(&x, p, 8);
        return helix_zeros(x & (ones * 0xe0)) | helix_zeros(x ^ (ones * 0x22)) | helix_zeros(x ^ (ones * 0x5c));
    }

    /* Bytes that escaping adds to eight. */
    static inline int helix_more_of_word(const char *p) {
        const uint64_t ones = 0x0101010101010101ULL;
        uint64_t x;
        int at, more = 0;
        memcpy(&x, p, 8);
        if (!helix_zeros(x & (ones * 0xe0)))
            return (int)((((helix_zeros(x ^ (ones * 0x22)) | helix_zeros(x ^ (ones * 0x5c))) >> 7) * ones) >> 56);
        for (at = 0; at < 8; at++)
            more += helix_more[(unsigned char)p[at]];
        return more;
    }

    /* Index of the first byte marked in what these return; the mark is not empty. */
    static inline int helix_first(uint64_t marks) {
    #if defined(_MSC_VER)
        unsigned long at;
        _BitScanForward64(&at, marks);
        return (int)(at >> 3);
    #elif defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return __builtin_clzll(marks) >> 3;
    #else
        return __builtin_ctzll(marks) >> 3;
    #endif
    }
    """
    const char* helix_hex_digits
    const char* helix_pairs
    const unsigned char* helix_more
    char helix_escape(unsigned char c) noexcept nogil
    uint64_t helix_escapes(const char* p) noexcept nogil
    int helix_more_of_word(const char* p) noexcept nogil
    int helix_first(uint64_t marks) noexcept nogil


cdef inline Py_ssize_t clean_length(const char* text, Py_ssize_t length) noexcept nogil:
    """Length of the prefix that needs no escaping."""
    cdef Py_ssize_t at = 0
    cdef uint64_t marks
    while at + 8 <= length:
        marks = helix_escapes(text + at)
        if marks:
            return at + helix_first(marks)
        at += 8
    while at < length and not helix_escape(<unsigned char> text[at]):
        at += 1
    return at


cdef inline Py_ssize_t escaped_length(const char* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t total = length
    while at + 8 <= length:
        total += helix_more_of_word(text + at)
        at += 8
    while at < length:
        total += helix_more[<unsigned char> text[at]]
        at += 1
    return total


cdef inline char* put(char* out, const char* data, Py_ssize_t length) noexcept nogil:
    memcpy(out, data, <size_t> length)
    return out + length


cdef inline char* put_escape(char* out, unsigned char byte) noexcept nogil:
    cdef char letter = helix_escape(byte)
    out[0] = c"\\"
    out[1] = letter
    if letter != c"u":
        return out + 2
    out[2] = out[3] = c"0"
    out[4] = helix_hex_digits[byte >> 4]
    out[5] = helix_hex_digits[byte & 15]
    return out + 6


cdef char* put_escaped(char* out, const char* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t at = 0
    cdef uint64_t marks
    cdef int clean
    while at + 8 <= length:
        # All eight are copied, those from the first escape on overwritten: what is left needs as much room at least.
        memcpy(out, text + at, 8)
        marks = helix_escapes(text + at)
        if not marks:
            out += 8
            at += 8
            continue
        clean = helix_first(marks)
        out = put_escape(out + clean, <unsigned char> text[at + clean])
        at += clean + 1
    while at < length:
        if helix_escape(<unsigned char> text[at]):
            out = put_escape(out, <unsigned char> text[at])
        else:
            out[0] = text[at]
            out += 1
        at += 1
    return out
