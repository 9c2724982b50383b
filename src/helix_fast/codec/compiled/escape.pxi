"""Escapes of JSON text: found and written, 16 bytes at a time if the CPU has SSE2 or NEON."""


cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    #endif
    #if defined(__SSE2__) || defined(_M_X64)
    #include <emmintrin.h>
    #define HELIX_SSE2
    #elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #include <arm_neon.h>
    #define HELIX_NEON
    #endif
    /* Escapes of controls: 'u' means \\u00XX, another letter follows the backslash. */
    static const char helix_control_escapes[33] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    static const char helix_hex_digits[17] = "0123456789abcdef";
    static const char helix_pairs[201] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

    /* Bytes that escaping adds: a table, since a branch on text is mispredicted. */
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

    /* Marks of those bytes of a block that JSON wants escaped: HELIX_BITS of each, the first byte's lowest. */
    #if defined(HELIX_SSE2)
    #define HELIX_BLOCK 16
    #define HELIX_BITS 1
    static inline uint64_t helix_marks(const char *p) {
        const __m128i x = _mm_loadu_si128((const __m128i *)p);
        const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
        const __m128i quote = _mm_cmpeq_epi8(x, _mm_set1_epi8('"'));
        const __m128i backslash = _mm_cmpeq_epi8(x, _mm_set1_epi8('\\\\'));
        return (uint64_t)(unsigned int)_mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash)));
    }
    #elif defined(HELIX_NEON)
    #define HELIX_BLOCK 16
    #define HELIX_BITS 4
    static inline uint64_t helix_marks(const char *p) {
        const uint8x16_t x = vld1q_u8((const uint8_t *)p);
        const uint8x16_t quote = vceqq_u8(x, vdupq_n_u8('"')), backslash = vceqq_u8(x, vdupq_n_u8('\\\\'));
        const uint8x16_t marks = vorrq_u8(vcltq_u8(x, vdupq_n_u8(0x20)), vorrq_u8(quote, backslash));
        /* NEON has no movemask; this keeps half a byte of each. */
        return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(marks), 4)), 0);
    }
    #else
    #define HELIX_BLOCK 8
    #define HELIX_BITS 8
    static inline uint64_t helix_marks(const char *p) {
        uint64_t marks = helix_escapes(p);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        marks = __builtin_bswap64(marks);
    #endif
        return marks;
    }
    #endif

    /* Index of the first byte of a block that is marked; the marks are not empty. */
    static inline int helix_first_mark(uint64_t marks) {
    #if defined(_MSC_VER)
        unsigned long at;
        _BitScanForward64(&at, marks);
        return (int)at / HELIX_BITS;
    #else
        return __builtin_ctzll(marks) / HELIX_BITS;
    #endif
    }
    """
    enum:
        HELIX_BLOCK
        HELIX_BITS
    const char* helix_hex_digits
    const char* helix_pairs
    const unsigned char* helix_more
    char helix_escape(unsigned char c) noexcept nogil
    uint64_t helix_escapes(const char* p) noexcept nogil
    int helix_first(uint64_t marks) noexcept nogil
    uint64_t helix_marks(const char* p) noexcept nogil
    int helix_first_mark(uint64_t marks) noexcept nogil


cdef inline Py_ssize_t clean_length(const char* text, Py_ssize_t length) noexcept nogil:
    """Length of the prefix that needs no escaping."""
    cdef Py_ssize_t at = 0
    cdef uint64_t marks
    # Two at a time while there is nothing: a third less time for long texts.
    while at + 2 * HELIX_BLOCK <= length and not helix_marks(text + at) | helix_marks(text + at + HELIX_BLOCK):
        at += 2 * HELIX_BLOCK
    while at + HELIX_BLOCK <= length:
        marks = helix_marks(text + at)
        if marks:
            return at + helix_first_mark(marks)
        at += HELIX_BLOCK
    if at + 8 <= length:
        marks = helix_escapes(text + at)
        if marks:
            return at + helix_first(marks)
        at += 8
    while at < length and not helix_more[<unsigned char> text[at]]:
        at += 1
    return at


cdef Py_ssize_t escapes_add(const char* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t at, more = 0
    for at in range(length):
        more += helix_more[<unsigned char> text[at]]
    return more


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
    cdef Py_ssize_t at = 0, stop
    cdef uint64_t marks
    cdef int clean
    while at + HELIX_BLOCK <= length:
        # The block is copied whole, and bytes behind a mark are overwritten: the rest needs at least as much room.
        memcpy(out, text + at, HELIX_BLOCK)
        marks = helix_marks(text + at)
        stop = at + HELIX_BLOCK
        while marks:
            clean = helix_first_mark(marks)
            out = put_escape(out + clean, <unsigned char> text[at + clean])
            at += clean + 1
            if at + HELIX_BLOCK > length:
                break
            memcpy(out, text + at, HELIX_BLOCK)
            marks = marks >> (HELIX_BITS * clean) >> HELIX_BITS
        else:
            out += stop - at
            at = stop
    while at < length:
        if helix_escape(<unsigned char> text[at]):
            out = put_escape(out, <unsigned char> text[at])
        else:
            out[0] = text[at]
            out += 1
        at += 1
    return out
