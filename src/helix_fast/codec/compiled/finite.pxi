"""The search for values that JSON cannot hold."""


cdef enum:
    FINITE = 0
    NOT_FINITE = 1
    KEY_NOT_STR = 2
    TOO_DEEP = 3
    BYTES = 4


cdef int find_fault(object value, int depth, bint binary, list trail) except -1:
    """Walks depth first. After a fault `trail` is its description, then the path to it, innermost first."""
    cdef int fault
    cdef double number
    cdef Py_ssize_t index
    if value is None or isinstance(value, (str, int)):
        return FINITE
    if isinstance(value, float):
        number = value
        if number - number == 0.0:
            return FINITE
        trail.append(float.__repr__(value))
        return NOT_FINITE
    if isinstance(value, dict):
        if depth == MAX_DEPTH:
            return TOO_DEEP
        for key, child in (<dict> value).items():
            if not isinstance(key, str):
                trail.append(type(key).__name__)
                return KEY_NOT_STR
            fault = find_fault(child, depth + 1, binary, trail)
            if fault:
                trail.append(f".{key}")
                return fault
        return FINITE
    if isinstance(value, (list, tuple, set, frozenset)):
        if depth == MAX_DEPTH:
            return TOO_DEEP
        index = 0
        for child in value:
            fault = find_fault(child, depth + 1, binary, trail)
            if fault:
                trail.append(f"[{index}]")
                return fault
            index += 1
        return FINITE
    if not binary and isinstance(value, (bytes, bytearray, memoryview)):
        trail.append(type(value).__name__)
        return BYTES
    fields = getattr(type(value), "__struct_fields__", None)
    if fields is None:
        fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is None:
        return FINITE
    if depth == MAX_DEPTH:
        return TOO_DEEP
    for field in fields:
        fault = find_fault(getattr(value, field, None), depth + 1, binary, trail)
        if fault:
            trail.append(f".{field}")
            return fault
    return FINITE


def check_finite(value, binary=True):
    """Refuse NaN, Infinity, keys that are not str and, unless `binary`, bytes."""
    cdef list trail = []
    cdef int fault = find_fault(value, 0, binary, trail)
    if fault == FINITE:
        return
    if fault == TOO_DEEP:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    path = "".join(reversed(trail[1:])).removeprefix(".") or "value"
    if fault == KEY_NOT_STR:
        raise TypeError(f"{path}: a key must be str, not {trail[0]}")
    if fault == BYTES:
        raise TypeError(f"{path}: {trail[0]} is no JSON value, decode it first")
    raise ValueError(f"{path}: {trail[0]} is no JSON number")
