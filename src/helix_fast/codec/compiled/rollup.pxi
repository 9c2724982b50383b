"""The rollup: sums of usage entries by model, tool, sub-agent type and custom type, read from their raw JSON."""


# Sums above it are moved to the large ones, long before they overflow.
cdef int64_t LARGE_SUM = <int64_t> 1 << 62

# Seeds the hash table, so that a user cannot choose names that all collide. Set once, at import.
cdef uint64_t NAME_SEED = <uint64_t> <Py_ssize_t> hash(b"helix_fast.rollup")

cdef uint64_t name_hash(int group, const char* name, Py_ssize_t length) noexcept nogil:
    cdef uint64_t mixed = NAME_SEED ^ <uint64_t> group
    mixed ^= <uint64_t> length << 32
    while length > 0:
        mixed = (mixed ^ helix_word(name, length)) * 0x9E3779B97F4A7C15ULL
        mixed ^= mixed >> 32
        name += 8
        length -= 8
    return mixed


cdef inline void add_real(Slot* slot, double number) noexcept nogil:
    """Neumaier's compensated sum, with the operations of `plain/sums.py` in their order."""
    cdef double total = slot.real_sum + number
    if fabs(slot.real_sum) >= fabs(number):
        slot.real_rest += (slot.real_sum - total) + number
    else:
        slot.real_rest += (number - total) + slot.real_sum
    slot.real_sum = total


cdef inline void spread(Slot* slot, int64_t low, int64_t high) noexcept nogil:
    if low < slot.low:
        slot.low = low
    if high > slot.high:
        slot.high = high


cdef inline void spread_real(Slot* slot, double low, double high) noexcept nogil:
    if low < slot.real_low:
        slot.real_low = low
    if high > slot.real_high:
        slot.real_high = high


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
            free(self.slots[at].name)
        free(self.slots)
        free(self.index)

    cdef Py_ssize_t find(self, int group, const char* name, Py_ssize_t length) except -1:
        cdef uint64_t mixed = name_hash(group, name, length)
        cdef size_t place
        cdef Py_ssize_t at
        cdef Slot* slot
        if 2 * self.count >= self.places:
            self.grow()
        place = <size_t> mixed & <size_t> (self.places - 1)
        while True:
            at = self.index[place] - 1
            if at < 0:
                break
            slot = &self.slots[at]
            if (
                slot.mixed == mixed and slot.group == group and slot.length == length
                and helix_same(slot.name, name, length)
            ):
                return at
            place = (place + 1) & <size_t> (self.places - 1)
        slot = &self.slots[self.count]
        memset(slot, 0, sizeof(Slot))
        slot.name = <char*> malloc(<size_t> (length if length else 1))
        if slot.name == NULL:
            raise MemoryError
        memcpy(slot.name, name, <size_t> length)
        slot.length = length
        slot.mixed = mixed
        slot.group = group
        slot.low = INT64_MAX
        slot.high = INT64_MIN
        slot.real_low = INFINITY
        slot.real_high = -INFINITY
        self.count += 1
        self.index[place] = self.count
        return self.count - 1

    cdef int grow(self) except -1:
        cdef Py_ssize_t places = 2 * self.places if self.places else 16
        cdef Slot* slots = <Slot*> realloc(self.slots, <size_t> (places // 2 + 1) * sizeof(Slot))
        cdef Py_ssize_t* index
        cdef Py_ssize_t at
        cdef size_t place
        if slots == NULL:
            raise MemoryError
        self.slots = slots
        index = <Py_ssize_t*> calloc(<size_t> places, sizeof(Py_ssize_t))
        if index == NULL:
            raise MemoryError
        for at in range(self.count):
            place = <size_t> slots[at].mixed & <size_t> (places - 1)
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
        cdef int64_t total = self.slots[at].integers[field] + value
        if -LARGE_SUM < total < LARGE_SUM:
            self.slots[at].integers[field] = total
            return 0
        self.slots[at].integers[field] = 0
        return self.put_large(at, field, total)

    cdef inline void put_time(self, int64_t first, int64_t last) noexcept:
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last

    cdef int add_usual(self, const Entry* entry) except -1:
        cdef Py_ssize_t at, child = -1
        cdef Slot* slot
        cdef int field
        # All that may fail for lack of memory comes first: an entry is added whole or not at all.
        at = self.find(entry.group, entry.name, entry.name_length)
        if entry.child_length:
            child = self.find(CHILDREN, entry.child, entry.child_length)
            self.slots[child].count += 1
        slot = &self.slots[at]
        slot.count += 1
        self.entry_count += 1
        if entry.timed:
            self.put_time(entry.time, entry.time)
        if entry.number == FRACTION:
            slot.real_count += 1
            spread_real(slot, entry.real, entry.real)
            add_real(slot, entry.real)
        elif entry.number == WHOLE:
            slot.whole_count += 1
            spread(slot, entry.whole, entry.whole)
            self.put_integer(at, WHOLE_SUM, entry.whole)
        for field in range(entry.counts):
            self.put_integer(at, field, entry.integers[field])
        return 0

    cdef int add_unusual(self, object reading) except -1:
        """What the plain twin has read."""
        group, name, integers, number, time, child = reading
        cdef Py_ssize_t at
        cdef Slot* slot
        cdef int field = 0
        cdef bytes key = (<str> name).encode()
        at = self.find(group, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        if child is not None:
            key = (<str> child).encode()
            self.slots[self.find(CHILDREN, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))].count += 1
        self.slots[at].count += 1
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
            self.slots[at].whole_count += 1
            if -LARGE_SUM < number < LARGE_SUM:
                spread(&self.slots[at], number, number)
                self.put_integer(at, WHOLE_SUM, number)
            else:
                self.put_large(at, WHOLE_SUM, number)
                self.put_large(at, LOWEST, number)
                self.put_large(at, HIGHEST, number)
        elif number is not None:
            slot = &self.slots[at]
            slot.real_count += 1
            spread_real(slot, number, number)
            add_real(slot, number)
        return 0

    def add(self, entries):
        """Add entries, each one JSON object."""
        cdef Entry read
        cdef Shapes shapes
        cdef Value* values
        cdef const char* data
        cdef Py_ssize_t length
        cdef list learnt = []       # the entries whose bytes the shapes point to
        shapes.count = shapes.last = shapes.tried = shapes.fitted = 0
        if not isinstance(entries, list):
            raise TypeError(f"entries must be a list, not {type(entries).__name__}")
        with cython.critical_section(self):
            for entry in <list> entries:
                require_bytes(entry, "an entry")
                data = PyBytes_AS_STRING(entry)
                length = PyBytes_GET_SIZE(entry)
                values = find_shape(&shapes, data, length)
                if values != NULL and read_values(&read, values):
                    self.add_usual(&read)
                    continue
                if read_usual(&read, data, length):
                    self.add_usual(&read)
                    if values == NULL and shapes.count < SHAPES:
                        if learn_shape(&shapes.known[shapes.count], data, length):
                            learnt.append(entry)
                            shapes.count += 1
                    continue
                reading = plain_reading(entry)
                if reading is None:
                    self.malformed_count += 1
                else:
                    self.add_unusual(reading)

    cdef int merge_slot(self, const Slot* source) except -1:
        cdef Slot other = source[0]     # `find` may move the table that it stands in, when self is merged into itself
        cdef Py_ssize_t at = self.find(other.group, other.name, other.length)
        cdef Slot* slot = &self.slots[at]
        cdef int field
        slot.count += other.count
        slot.whole_count += other.whole_count
        slot.real_count += other.real_count
        spread(slot, other.low, other.high)
        spread_real(slot, other.real_low, other.real_high)
        add_real(slot, other.real_sum)
        slot.real_rest += other.real_rest
        for field in range(WHOLE_SUM + 1):
            self.put_integer(at, field, other.integers[field])
        return 0

    def merge(self, Rollup other not None):
        """Add the sums of another rollup."""
        cdef Py_ssize_t at
        cdef Slot* slot
        cdef list large
        with cython.critical_section(self, other):
            large = list(other.large.items())
            self.entry_count += other.entry_count
            self.malformed_count += other.malformed_count
            self.put_time(other.first, other.last)
            for at in range(other.count):
                self.merge_slot(&other.slots[at])
            for (place, field), value in large:
                slot = &other.slots[<Py_ssize_t> place]
                self.put_large(self.find(slot.group, slot.name, slot.length), field, value)

    cdef int restore_slot(self, object sums) except -1:
        """Sums of one name, which the plain twin has checked."""
        group, name, count, integers, whole, real = sums
        cdef bytes key = (<str> name).encode()
        cdef Py_ssize_t at = self.find(group, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Slot* slot = &self.slots[at]
        cdef int field = 0
        slot.count = count
        slot.real_count, slot.real_sum, slot.real_rest = real[:3]
        if real[3] is not None:
            slot.real_low, slot.real_high = real[3:]
        slot.whole_count = whole[0]
        for value in (*integers, whole[1]):
            if -LARGE_SUM < value < LARGE_SUM:
                slot.integers[field] = value
            else:
                self.put_large(at, field, value)
            field += 1
        for value in whole[2:]:
            if value is None:
                continue
            if -LARGE_SUM < value < LARGE_SUM:
                spread(slot, value, value)
            else:
                self.put_large(at, LOWEST, value)
                self.put_large(at, HIGHEST, value)
        return 0

    @staticmethod
    def restore(exported):
        """The rollup that exported these sums."""
        cdef Rollup made = Rollup()
        cdef bytes key
        entry_count, malformed_count, first, last, slots, children = plain_twin().check_sums(exported)
        made.entry_count, made.malformed_count = entry_count, malformed_count
        if first is not None:
            made.put_time(first, last)
        for sums in slots:
            made.restore_slot(sums)
        for child in children:
            key = (<str> child).encode()
            made.find(CHILDREN, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        return made

    def copy(self):
        """The same sums in an object of their own."""
        cdef Rollup twin = Rollup()
        twin.merge(self)
        return twin

    cdef tuple export_slot(self, Py_ssize_t at):
        cdef Slot slot = self.slots[at]
        cdef dict large = self.large
        cdef int field
        cdef list sums = []
        for field in range(WHOLE_SUM + 1):
            sums.append(slot.integers[field] + large.get((at, field), 0))
        low = slot.low if slot.low != INT64_MAX else None
        high = slot.high if slot.high != INT64_MIN else None
        if (at, LOWEST) in large:
            lowest, highest = large[at, LOWEST], large[at, HIGHEST]
            low = lowest if low is None else min(low, lowest)
            high = highest if high is None else max(high, highest)
        return (
            slot.count, *sums[:WHOLE_SUM], slot.whole_count, sums[WHOLE_SUM], low, high,
            slot.real_count, slot.real_sum, slot.real_rest,
            slot.real_low if slot.real_count else None, slot.real_high if slot.real_count else None,
        )

    def export(self):
        """The sums as plain values, from which `restore` makes the rollup again."""
        cdef Py_ssize_t at
        cdef list groups = [{} for _ in range(CHILDREN)]
        cdef list children = []
        cdef dict group
        with cython.critical_section(self):
            for at in range(self.count):
                name = self.slots[at].name[:self.slots[at].length].decode()
                if self.slots[at].group == CHILDREN:
                    children.append(name)
                else:
                    group = groups[self.slots[at].group]
                    group[name] = self.export_slot(at)
            first = self.first if self.first != INT64_MAX else None
            last = self.last if self.last != INT64_MIN else None
            return self.entry_count, self.malformed_count, first, last, tuple(groups), children
