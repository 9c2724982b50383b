"""What a reader has at hand: pushes that continue what it has seen, and items that an `async for` takes.

Each step of an `async for` takes an item that is there without a coroutine, the costly part of a step.
"""

cdef extern from "Python.h":
    int PyIter_Send(object iterator, object value, PyObject** result) except -1


cdef extern from *:
    """
    /* Cython has no name for this slot: by it asyncio's tasks, and `await` before Python 3.12, get a result without an
       exception to carry it. */
    static void helix_set_send(PyTypeObject *type_of, int (*send)(PyObject *, PyObject *, PyObject **)) {
        type_of->tp_as_async->am_send = (sendfunc)(void *)send;
    }
    """
    void helix_set_send(type type_of, int (*send)(object, object, PyObject**) except -1)


cdef enum:
    RETURNED = 0                # PySendResult
    YIELDED = 1
    MAX_PUSHED_ENTRIES = 512    # as in the twin
    MAX_PUSHED_BYTES = 1048576


cdef class Items:
    """See the twin. Owned by one thread."""

    def __cinit__(self, *args, **options):
        self._items = []

    def __aiter__(self):
        return self

    def __anext__(self):
        """The next item; see the twin."""
        cdef _Step step = _Step.__new__(_Step)
        step.source = self
        return step


@cython.final
@cython.freelist(8)
cdef class _Step:
    """One step of an `async for`: what a coroutine that takes an item, or awaits `_advance` before, would be."""

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Begin, or go on."""
        cdef PyObject* found = NULL
        cdef int outcome = send_step(self, value, &found)
        result: object = <object> found
        Py_DECREF(result)
        if outcome == YIELDED:
            return result
        raise StopIteration(result)

    def throw(self, kind, value=None, traceback=None):
        """Raise an exception where it waits."""
        cdef Items source = self.source
        cdef PyObject* found = NULL
        self.source = None
        if self.waiting is None:
            raise kind if value is None else value
        try:
            result = self.waiting.throw(kind if value is None else value)
        except StopIteration:
            # Caught there, and there is an item now.
            if take_item(source, &found):
                item: object = <object> found
                Py_DECREF(item)
                raise StopIteration(item) from None
            raise RuntimeError("there is no item") from None
        self.source = source    # caught there: it goes on
        return result

    def close(self):
        """End it."""
        self.source = None
        if self.waiting is not None:
            self.waiting.close()


cdef bint take_item(Items source, PyObject** result) except -1:
    # The length too: these are attributes that anybody may set, and nothing is checked behind this.
    if 0 <= source._index < min(source._clean, PyList_GET_SIZE(source._items)):
        item = source._items[source._index]
        source._index += 1
        Py_INCREF(item)
        result[0] = <PyObject*> item
        return True
    return False


cdef int send_step(object this, object value, PyObject** result) except -1:
    cdef _Step step = this
    cdef Items source = step.source
    cdef PyObject* nothing = NULL
    if source is None:
        raise RuntimeError("this step was awaited already")
    if step.waiting is None:
        if take_item(source, result):
            step.source = None
            return RETURNED
        step.waiting = source._advance()
    try:
        if PyIter_Send(step.waiting, value, result) == YIELDED:
            return YIELDED
    except:  # noqa: E722  whatever it is goes on
        step.source = None
        raise
    step.source = None
    nothing = result[0]
    Py_DECREF(<object> nothing)
    if take_item(source, result):
        return RETURNED
    raise RuntimeError("there is no item")


helix_set_send(_Step, send_step)


cdef bint same_term(bytes entry, bytes payload) except -1:
    """Whether both begin with the same number and a dash; where there is no entry yet, every term will do."""
    cdef const char* text = PyBytes_AS_STRING(entry)
    cdef const char* dash = <const char*> memchr(text, c"-", <size_t> PyBytes_GET_SIZE(entry))
    if dash == NULL:
        return PyBytes_GET_SIZE(entry) == 0
    return (
        dash - text < PyBytes_GET_SIZE(payload)
        and memcmp(text, PyBytes_AS_STRING(payload), <size_t> (dash - text + 1)) == 0
    )


@cython.nonecheck(True)
cdef class Inbox:
    """See the twin. Owned by one thread."""

    def __cinit__(self, *args, **options):
        self.entry = b""
        self.pushes = []

    cdef int wake(self) except -1:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
        return 0

    cdef int mark_dirty(self) except -1:
        self.dirty = True
        self.pushes.clear()
        self.pushed_bytes = 0
        return self.wake()

    cdef bint taking(self) noexcept:
        return self.live and not (self.dirty or self.closed or self.ended) and self.error is None

    def pushed(self, payload):
        """A message of the channel; see the twin."""
        require_bytes(payload, "payload")
        if not self.dirty:
            if is_word(payload, b"!", 1):
                self.mark_dirty()
                return
            self.pushes.append(payload)
            self.pushed_bytes += PyBytes_GET_SIZE(payload)
            if PyList_GET_SIZE(self.pushes) > MAX_PUSHED_ENTRIES or self.pushed_bytes > MAX_PUSHED_BYTES:
                self.mark_dirty()
                return
        self.wake()

    def resync(self):
        """Messages may have been missed."""
        self.joined = True
        self.mark_dirty()

    def look(self):
        """Have the log read."""
        self.mark_dirty()

    def rouse(self):
        """Wake the reader, if it waits."""
        self.wake()

    def waits(self):
        """Whether nothing is to be done but to wait for a push."""
        return self.taking() and PyList_GET_SIZE(self.pushes) == 0

    def at_hand(self):
        """What the decoder makes of the next push that has something new; see the twin."""
        cdef uint64_t term = 0, first = 0, last = 0, seen
        cdef const char* start
        cdef const char* body
        cdef const char* colon
        cdef bytes payload
        while self.taking() and PyList_GET_SIZE(self.pushes):
            payload = self.pushes.pop(0)
            self.pushed_bytes -= PyBytes_GET_SIZE(payload)
            start = PyBytes_AS_STRING(payload)
            body = parse_position(payload, &term, &first, &last)
            seen = self.window.last
            if body == NULL or first < 1 or first - 1 > seen or not same_term(self.entry, payload):
                # Nothing of ours, a hole, or a term that may be behind a reset: the log is the truth.
                self.mark_dirty()
            elif last > seen:
                self.window.last = last
                colon = <const char*> memchr(start, c":", <size_t> (body - start))
                self.entry = PyBytes_FromStringAndSize(start, colon - start)
                return self.decoder.decode(
                    PyBytes_FromStringAndSize(body, start + PyBytes_GET_SIZE(payload) - body), last, seen
                )
        return None
