"""Checks of arguments: the range of integers, bytes that are bytes, the UTF-8 of a str."""


cdef uint64_t rare_u64(object value, str name) except? 0xFFFFFFFFFFFFFFFF:
    """The upper half of the range, and all that is refused."""
    if not PyLong_Check(value) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    try:
        return PyLong_AsUnsignedLongLong(value)
    except OverflowError:
        raise OverflowError(f"{name} is outside 0..{UINT64_MAX}") from None


cdef inline uint64_t u64(object value, str name) except? 0xFFFFFFFFFFFFFFFF:
    # The signed conversion first: CPython's unsigned one goes through a byte array, 20 ns for a timestamp.
    cdef int overflow = 0
    cdef long long number
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if number >= 0:
            return <uint64_t> number
    return rare_u64(value, name)


cdef inline int require_bytes(object value, str name) except -1:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    return 0


cdef inline int read_text(Text* out, object text, str name) except -1:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    if PyUnicode_IS_COMPACT_ASCII(text):
        out.data = <const char*> PyUnicode_1BYTE_DATA(text)
        out.length = PyUnicode_GET_LENGTH(text)
    else:
        out.data = PyUnicode_AsUTF8AndSize(text, &out.length)
    if out.length > PY_SSIZE_T_MAX // 8:    # six bytes a character at worst: only on 32-bit machines
        raise OverflowError(f"{name} is too long")
    out.clean = clean_length(out.data, out.length)
    # Counting what escapes add takes as long as writing them: where the worst is not much, room is made for that.
    out.room = out.length + (
        5 * (out.length - out.clean) if out.length - out.clean <= UNCOUNTED
        else escapes_add(out.data + out.clean, out.length - out.clean)
    )
    return 0
