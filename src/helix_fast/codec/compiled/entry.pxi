"""The numbers that one usage entry adds to the sums, read from its raw JSON; and the filters over entries."""


cdef extern from "Python.h":
    double PyOS_string_to_double(const char* text, char** end, PyObject* overflow) except? -1.0


cdef object plain_twin():
    # Not at import: it needs msgspec, and the codec is used without it (Python 3.13t).
    from helix_fast.codec.plain import rollup
    return rollup


cdef object plain_reading(bytes entry):
    return plain_twin().read_entry(entry)


cdef inline bint read_name(Entry* entry, const Value* value) noexcept nogil:
    """The name that an entry is counted under; False: the plain twin must read the entry."""
    if value.type == STRING and not value.escaped and value.length:
        entry.name = value.start
        entry.name_length = value.length
        return True
    if value.type == ABSENT or value.type == ABSENT_NULL or (value.type == STRING and not value.length):
        entry.name = b"unknown"
        entry.name_length = 7
        return True
    return False


cdef inline bint read_count(int64_t* count, const Value* value) noexcept nogil:
    count[0] = value.whole if value.type == INTEGER else 0
    return value.type <= ABSENT_NULL or (value.type == INTEGER and value.whole >= 0)


cdef bint scan_tokens(const Value* tokens, const char* end, Value* values) noexcept nogil:
    """The fields of an entry's tokens; False: the plain twin must read the entry."""
    cdef Cursor cursor
    cdef int index
    if tokens.type != OBJECT:
        return False
    for index in range(TOKEN_FIELDS):
        values[index].type = ABSENT
    cursor.at = tokens.start
    cursor.end = end
    return scan_object(&cursor, helix_token_fields, TOKEN_FIELDS, values, 1) == USUAL


cdef inline int64_t beside(int64_t part, int64_t whole, int64_t* room) noexcept nogil:
    """How much of a part stands beside its whole: all of it or none."""
    if part <= whole and part > room[0]:
        return 0
    room[0] -= part
    return part


cdef inline bint read_tokens(Entry* entry, const Value* values) noexcept nogil:
    cdef int index
    cdef int64_t* sums = entry.integers
    cdef int64_t room = -1, reasoning, cached
    for index in range(TOKEN_FIELDS):
        if not read_count(&sums[index], &values[index]):
            return False
    # The same decision as in `plain/rollup.py: _read_tokens`, which gives its reasons.
    if values[TOTAL].type == INTEGER:
        room = sums[TOTAL] - sums[PROMPT] - sums[COMPLETION]
    if sums[CACHED] > sums[REASONING]:
        cached = beside(sums[CACHED], sums[PROMPT], &room)
        reasoning = beside(sums[REASONING], sums[COMPLETION], &room)
    else:
        reasoning = beside(sums[REASONING], sums[COMPLETION], &room)
        cached = beside(sums[CACHED], sums[PROMPT], &room)
    sums[PROMPT] += cached
    if values[TOTAL].type != INTEGER:
        sums[TOTAL] = sums[PROMPT] + sums[COMPLETION] + reasoning
    sums[REASONING_INSIDE] = sums[REASONING] - reasoning
    sums[CACHED_INSIDE] = sums[CACHED]
    return True


cdef int read_number(Entry* entry, const Value* value) except -1:
    """1: the value is a number. 0: the plain twin must read the entry."""
    if value.type == INTEGER:
        entry.number = WHOLE
        entry.whole = value.whole
        return 1
    if value.type != REAL:
        return 0
    # 18 digits, a fraction, an exponent of two digits: no overflow. The NUL after a bytes object ends the number.
    entry.real = PyOS_string_to_double(value.start, &entry.number_end, NULL)
    entry.number = FRACTION
    return 1


cdef int read_amount(Entry* entry, const Value* value) except -1:
    """1: nothing, or a number from 0. 0: the plain twin must read the entry."""
    if value.type <= ABSENT_NULL:
        return 1
    if not read_number(entry, value):
        return 0
    return entry.whole >= 0 if entry.number == WHOLE else entry.real >= 0.0


cdef int read_outcome(Entry* entry, const Value* values) except -1:
    """Success and duration of a tool call or a sub-agent; 0: the plain twin must read the entry."""
    cdef bint success
    if values[SUCCESS].type <= ABSENT_NULL:
        success = values[ERROR].type <= ABSENT_NULL
    elif values[SUCCESS].type == TRUE or values[SUCCESS].type == FALSE:
        success = values[SUCCESS].type == TRUE
    else:
        return 0
    entry.integers[0] = success
    entry.integers[1] = not success
    return read_amount(entry, &values[DURATION])


cdef inline bint is_kind(const Value* kind, const char* name, Py_ssize_t length) noexcept nogil:
    return kind.length == length and memcmp(kind.start, name, <size_t> length) == 0


cdef int read_values(Entry* entry, const Value* values) except -1:
    """1: `entry` holds what is counted. 0: the plain twin must read the entry."""
    cdef const Value* kind = &values[KIND]
    cdef const Value* child = &values[SUB_SESSION]
    entry.number = NONE
    entry.child_length = 0
    entry.timed = values[TIME].type == INTEGER
    if entry.timed:
        entry.time = values[TIME].whole
    elif values[TIME].type > ABSENT_NULL:
        return 0
    if is_kind(kind, b"tokens", 6):
        entry.section = TOKENS
        entry.counts = INTEGERS
        if not read_tokens(entry, &values[ENTRY_FIELDS]) or not read_name(entry, &values[MODEL]):
            return 0
        return read_amount(entry, &values[COST])
    entry.counts = 2
    if is_kind(kind, b"tool", 4):
        entry.section = TOOLS
        return read_name(entry, &values[TOOL_NAME]) and read_outcome(entry, values)
    if is_kind(kind, b"subagent", 8):
        entry.section = SUB_AGENTS
        if child.type == STRING and not child.escaped:
            entry.child = child.start
            entry.child_length = child.length
        elif child.type > ABSENT_NULL:
            return 0
        return read_name(entry, &values[AGENT_TYPE]) and read_outcome(entry, values)
    entry.counts = 0
    if is_kind(kind, b"custom", 6):
        entry.section = CUSTOM
        return read_name(entry, &values[CUSTOM_TYPE]) and read_number(entry, &values[CUSTOM_VALUE])
    entry.section = OTHER
    return read_name(entry, kind)


cdef int read_usual(Entry* entry, const char* data, Py_ssize_t length) except -1:
    """The same for the bytes of an entry."""
    cdef Value values[ENTRY_FIELDS + TOKEN_FIELDS]
    if scan_entry(data, length, values) != USUAL:
        return 0
    if is_kind(&values[KIND], b"tokens", 6):
        if not scan_tokens(&values[TOKENS_FIELD], data + length, &values[ENTRY_FIELDS]):
            return 0
    return read_values(entry, values)


# ---------------------------------------------------------------- filters

cdef int64_t bound(object limit, int64_t absent) except? -1:
    """A filter's bound. Scanned numbers are far within 64 bits, so larger bounds may be cut."""
    if limit is None:
        return absent
    return <int64_t> max(min(limit, INT64_MAX), INT64_MIN)


cdef inline int in_range(const Value* value, bint asked, int64_t low, int64_t high) noexcept nogil:
    """1: yes, 0: no, -1: the plain twin must read the entry."""
    if not asked:
        return 1
    if value.type == INTEGER:
        return low <= value.whole <= high
    return 0 if value.type <= ABSENT_NULL else -1


cdef int is_one_of(const Value* kind, tuple kinds) except -1:
    for name in kinds:
        if is_kind(kind, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
            return 1
    return 0


def select_entries(entries, kinds, steps, times, limit):
    """The first `limit` entries that pass the filters."""
    cdef Value values[ENTRY_FIELDS]
    cdef tuple names = None if kinds is None else tuple(kinds)
    cdef int64_t step_low = bound(steps[0], INT64_MIN), step_high = bound(steps[1], INT64_MAX)
    cdef int64_t time_low = bound(times[0], INT64_MIN), time_high = bound(times[1], INT64_MAX)
    cdef bint by_step = steps[0] is not None or steps[1] is not None
    cdef bint by_time = times[0] is not None or times[1] is not None
    cdef int step, time
    cdef list found = []
    if names is not None:
        for name in names:
            require_bytes(name, "a kind")
    for entry in entries:
        if len(found) >= limit:
            break
        require_bytes(entry, "an entry")
        if scan_entry(PyBytes_AS_STRING(entry), PyBytes_GET_SIZE(entry), values) == USUAL:
            if names is not None and not is_one_of(&values[KIND], names):
                continue
            step = in_range(&values[STEP], by_step, step_low, step_high)
            time = in_range(&values[TIME], by_time, time_low, time_high)
            if step == 0 or time == 0:
                continue
            if step == 1 and time == 1:
                found.append(entry)
                continue
        if plain_twin().entry_matches(entry, names, steps, times):
            found.append(entry)
    return found


def load_entry(data):
    """The JSON object of one entry; ValueError for what is none or has no kind."""
    return plain_twin().load_entry(data)
