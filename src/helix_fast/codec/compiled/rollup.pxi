"""The rollup: sums of usage entries by model, tool, sub-agent type and custom type, read from their raw JSON."""


# Sums above it are moved to the large ones, long before they overflow.
cdef int64_t LARGE_SUM = <int64_t> 1 << 62

# Seeds the hash table, so that a user cannot choose names that all collide. Set once, at import.
cdef uint64_t NAME_SEED = <uint64_t> <Py_ssize_t> hash(b"helix_fast.rollup")

cdef uint64_t name_hash(int section, const char* name, Py_ssize_t length) noexcept nogil:
    cdef uint64_t mixed = NAME_SEED ^ <uint64_t> section
    mixed ^= <uint64_t> length << 32
    while length > 0:
        mixed = (mixed ^ helix_word(name, length)) * 0x9E3779B97F4A7C15ULL
        mixed ^= mixed >> 32
        name += 8
        length -= 8
    return mixed


cdef inline void add_real(Group* group, double number) noexcept nogil:
    """Neumaier's compensated sum, with the operations of `plain/sums.py` in their order."""
    cdef double total = group.real_sum + number
    if fabs(group.real_sum) >= fabs(number):
        group.real_rest += (group.real_sum - total) + number
    else:
        group.real_rest += (number - total) + group.real_sum
    group.real_sum = total


cdef inline void spread(Group* group, int64_t low, int64_t high) noexcept nogil:
    if low < group.low:
        group.low = low
    if high > group.high:
        group.high = high


cdef inline void spread_real(Group* group, double low, double high) noexcept nogil:
    if low < group.real_low:
        group.real_low = low
    if high > group.real_high:
        group.real_high = high


@cython.final
cdef class Rollup:
    """Sums of usage entries by model, tool, sub-agent type and custom type. Owned by one thread at a time."""

    def __cinit__(self):
        self.first = INT64_MAX
        self.last = INT64_MIN
        self.large = {}

    def __dealloc__(self):
        cdef Py_ssize_t at
        for at in range(self.count):
            free(self.groups[at].name)
        free(self.groups)
        free(self.index)

    cdef Py_ssize_t find(self, int section, const char* name, Py_ssize_t length) except -1:
        cdef uint64_t mixed = name_hash(section, name, length)
        cdef size_t place
        cdef Py_ssize_t at
        cdef Group* group
        if 2 * self.count >= self.places:
            self.grow()
        place = <size_t> mixed & <size_t> (self.places - 1)
        while True:
            at = self.index[place] - 1
            if at < 0:
                break
            group = &self.groups[at]
            if (
                group.mixed == mixed and group.section == section and group.length == length
                and helix_same(group.name, name, length)
            ):
                return at
            place = (place + 1) & <size_t> (self.places - 1)
        group = &self.groups[self.count]
        memset(group, 0, sizeof(Group))
        group.name = <char*> malloc(<size_t> (length if length else 1))
        if group.name == NULL:
            raise MemoryError
        memcpy(group.name, name, <size_t> length)
        group.length = length
        group.mixed = mixed
        group.section = section
        group.low = INT64_MAX
        group.high = INT64_MIN
        group.real_low = INFINITY
        group.real_high = -INFINITY
        self.count += 1
        self.index[place] = self.count
        return self.count - 1

    cdef int grow(self) except -1:
        cdef Py_ssize_t places = 2 * self.places if self.places else 16
        cdef Group* groups = <Group*> realloc(self.groups, <size_t> (places // 2 + 1) * sizeof(Group))
        cdef Py_ssize_t* index
        cdef Py_ssize_t at
        cdef size_t place
        if groups == NULL:
            raise MemoryError
        self.groups = groups
        index = <Py_ssize_t*> calloc(<size_t> places, sizeof(Py_ssize_t))
        if index == NULL:
            raise MemoryError
        for at in range(self.count):
            place = <size_t> groups[at].mixed & <size_t> (places - 1)
            while index[place]:
                place = (place + 1) & <size_t> (places - 1)
            index[place] = at + 1
        free(self.index)
        self.index = index
        self.places = places
        return 0

    cdef int put_large(self, Py_ssize_t at, int field, object value) except -1:
        key = (at, field)
        known = self.large.get(key)
        if known is None:
            self.large[key] = value
        elif field == LOWEST:
            self.large[key] = min(known, value)
        elif field == HIGHEST:
            self.large[key] = max(known, value)
        else:
            self.large[key] = known + value
        return 0

    cdef inline int put_integer(self, Py_ssize_t at, int field, int64_t value) except -1:
        """Adds, and moves the sum among the large ones long before it overflows: a value is below 2**62."""
        cdef int64_t total = self.groups[at].integers[field] + value
        if -LARGE_SUM < total < LARGE_SUM:
            self.groups[at].integers[field] = total
            return 0
        self.groups[at].integers[field] = 0
        return self.put_large(at, field, total)

    cdef inline void put_time(self, int64_t first, int64_t last) noexcept:
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last

    cdef int add_usual(self, const Entry* entry) except -1:
        cdef Py_ssize_t at, child = -1
        cdef Group* group
        cdef int field
        # First all that may fail for lack of memory: an entry is added whole or not at all.
        at = self.find(entry.section, entry.name, entry.name_length)
        if entry.child_length:
            child = self.find(CHILDREN, entry.child, entry.child_length)
            self.groups[child].count += 1
        group = &self.groups[at]
        group.count += 1
        self.entry_count += 1
        if entry.timed:
            self.put_time(entry.time, entry.time)
        if entry.number == FRACTION:
            group.real_count += 1
            spread_real(group, entry.real, entry.real)
            add_real(group, entry.real)
        elif entry.number == WHOLE:
            group.whole_count += 1
            spread(group, entry.whole, entry.whole)
            self.put_integer(at, WHOLE_SUM, entry.whole)
        for field in range(entry.counts):
            self.put_integer(at, field, entry.integers[field])
        return 0

    cdef int add_unusual(self, object reading) except -1:
        """What the plain twin has read."""
        section, name, integers, number, time, child = reading
        cdef Py_ssize_t at
        cdef Group* group
        cdef int field = 0
        cdef bytes key = (<str> name).encode()
        at = self.find(section, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        if child is not None:
            key = (<str> child).encode()
            self.groups[self.find(CHILDREN, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))].count += 1
        self.groups[at].count += 1
        self.entry_count += 1
        if time is not None:
            self.put_time(time, time)
        for value in integers:
            if value < LARGE_SUM:
                self.put_integer(at, field, value)
            else:
                self.put_large(at, field, value)
            field += 1
        if isinstance(number, int):
            self.groups[at].whole_count += 1
            if -LARGE_SUM < number < LARGE_SUM:
                spread(&self.groups[at], number, number)
                self.put_integer(at, WHOLE_SUM, number)
            else:
                self.put_large(at, WHOLE_SUM, number)
                self.put_large(at, LOWEST, number)
                self.put_large(at, HIGHEST, number)
        elif number is not None:
            group = &self.groups[at]
            group.real_count += 1
            spread_real(group, number, number)
            add_real(group, number)
        return 0

    def add(self, entries):
        """Add entries, each one JSON object."""
        cdef Shapes shapes
        cdef list learnt = []       # the entries whose bytes the shapes point to
        shapes.count = shapes.last = shapes.tried = shapes.fitted = 0
        if not isinstance(entries, list):
            raise TypeError(f"entries must be a list, not {type(entries).__name__}")
        with cython.critical_section(self):
            for entry in <list> entries:
                require_bytes(entry, "an entry")
                if add_entry(self, &shapes, PyBytes_AS_STRING(entry), PyBytes_GET_SIZE(entry), entry):
                    learnt.append(entry)

    def add_strings(self, StringArray strings not None, first=0):
        """Add the entries of a reply, from an index on."""
        cdef Shapes shapes
        cdef Py_ssize_t index = max(0, first)
        cdef Py_ssize_t length = 0
        cdef const char* at = strings.place(min(index, strings.count))
        cdef const char* end = strings.stop
        cdef const char* text = NULL
        shapes.count = shapes.last = shapes.tried = shapes.fitted = 0
        with cython.critical_section(self):
            for index in range(index, strings.count):
                at = reply_string(at, end, &text, &length)
                add_entry(self, &shapes, text, length, None)

    cdef int merge_group(self, const Group* source) except -1:
        cdef Group other = source[0]     # `find` may move the table that it stands in, when self is merged into itself
        cdef Py_ssize_t at = self.find(other.section, other.name, other.length)
        cdef Group* group = &self.groups[at]
        cdef int field
        group.count += other.count
        group.whole_count += other.whole_count
        group.real_count += other.real_count
        spread(group, other.low, other.high)
        spread_real(group, other.real_low, other.real_high)
        add_real(group, other.real_sum)
        group.real_rest += other.real_rest
        for field in range(WHOLE_SUM + 1):
            self.put_integer(at, field, other.integers[field])
        return 0

    def merge(self, Rollup other not None):
        """Add the sums of another rollup."""
        cdef Py_ssize_t at
        cdef Group* group
        cdef list large
        with cython.critical_section(self, other):
            large = list(other.large.items())
            self.entry_count += other.entry_count
            self.malformed_count += other.malformed_count
            self.put_time(other.first, other.last)
            for at in range(other.count):
                self.merge_group(&other.groups[at])
            for (place, field), value in large:
                group = &other.groups[<Py_ssize_t> place]
                self.put_large(self.find(group.section, group.name, group.length), field, value)

    cdef int restore_group(self, object sums) except -1:
        """Sums of one name, which the plain twin has checked."""
        section, name, count, integers, whole, real = sums
        cdef bytes key = (<str> name).encode()
        cdef Py_ssize_t at = self.find(section, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Group* group = &self.groups[at]
        cdef int field = 0
        group.count = count
        group.real_count, group.real_sum, group.real_rest = real[:3]
        if real[3] is not None:
            group.real_low, group.real_high = real[3:]
        group.whole_count = whole[0]
        for value in (*integers, whole[1]):
            if -LARGE_SUM < value < LARGE_SUM:
                group.integers[field] = value
            else:
                self.put_large(at, field, value)
            field += 1
        for value in whole[2:]:
            if value is None:
                continue
            if -LARGE_SUM < value < LARGE_SUM:
                spread(group, value, value)
            else:
                self.put_large(at, LOWEST, value)
                self.put_large(at, HIGHEST, value)
        return 0

    @staticmethod
    def restore(exported):
        """The rollup that exported these sums."""
        cdef Rollup made = Rollup()
        cdef bytes key
        entry_count, malformed_count, first, last, groups, children = plain_twin().check_sums(exported)
        made.entry_count, made.malformed_count = entry_count, malformed_count
        if first is not None:
            made.put_time(first, last)
        for sums in groups:
            made.restore_group(sums)
        for child in children:
            key = (<str> child).encode()
            made.find(CHILDREN, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        return made

    def copy(self):
        """The same sums in an object of their own."""
        cdef Rollup twin = Rollup()
        twin.merge(self)
        return twin

    cdef tuple export_group(self, Py_ssize_t at):
        cdef Group group = self.groups[at]
        cdef dict large = self.large
        cdef int field
        cdef list sums = []
        for field in range(WHOLE_SUM + 1):
            sums.append(group.integers[field] + large.get((at, field), 0))
        low = group.low if group.low != INT64_MAX else None
        high = group.high if group.high != INT64_MIN else None
        if (at, LOWEST) in large:
            lowest, highest = large[at, LOWEST], large[at, HIGHEST]
            low = lowest if low is None else min(low, lowest)
            high = highest if high is None else max(high, highest)
        return (
            group.count, *sums[:WHOLE_SUM], group.whole_count, sums[WHOLE_SUM], low, high,
            group.real_count, group.real_sum, group.real_rest,
            group.real_low if group.real_count else None, group.real_high if group.real_count else None,
        )

    def export(self):
        """The sums as plain values, from which `restore` makes the rollup again."""
        cdef Py_ssize_t at
        cdef list sections = [{} for _ in range(CHILDREN)]
        cdef list children = []
        cdef dict section
        with cython.critical_section(self):
            for at in range(self.count):
                name = self.groups[at].name[:self.groups[at].length].decode()
                if self.groups[at].section == CHILDREN:
                    children.append(name)
                else:
                    section = sections[self.groups[at].section]
                    section[name] = self.export_group(at)
            first = self.first if self.first != INT64_MAX else None
            last = self.last if self.last != INT64_MIN else None
            return self.entry_count, self.malformed_count, first, last, tuple(sections), children


cdef bint add_entry(
    Rollup rollup, Shapes* shapes, const char* data, Py_ssize_t length, object entry
) except -1:
    """Add one; whether a shape now points into its bytes. `entry` is made of them where it is None."""
    cdef Entry read
    cdef Value* values = find_shape(shapes, data, length)
    if values != NULL and read_values(&read, values):
        rollup.add_usual(&read)
        return False
    if read_usual(&read, data, length):
        rollup.add_usual(&read)
        if values == NULL and shapes.count < SHAPES and learn_shape(&shapes.known[shapes.count], data, length):
            shapes.count += 1
            return True
        return False
    reading = plain_reading(PyBytes_FromStringAndSize(data, length) if entry is None else entry)
    if reading is None:
        rollup.malformed_count += 1
    else:
        rollup.add_unusual(reading)
    return False
