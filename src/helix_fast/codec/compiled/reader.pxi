"""Hot: the reader's side of a stream. Pushed entries, their buffer, and the steps of an `async for`.

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


cdef extern from *:
    """
    /* Cython makes a method of __anext__, which classes written in Python would look up by name at each step.
       A slot wrapper, as the interpreter's own classes have it, has them inherit the slot. */
    static int helix_wrap_anext(PyTypeObject *type_of) {
        PyObject *like = PyObject_GetAttrString((PyObject *)&PyAsyncGen_Type, "__anext__");
        int result = like ? 0 : -1;
        if (like && Py_TYPE(like) == &PyWrapperDescr_Type) {
            PyObject *made = PyDescr_NewWrapper(
                type_of, ((PyWrapperDescrObject *)like)->d_base, (void *)type_of->tp_as_async->am_anext);
            result = made ? PyDict_SetItemString(type_of->tp_dict, "__anext__", made) : -1;
            Py_XDECREF(made);
            PyType_Modified(type_of);
        }
        Py_XDECREF(like);
        return result;
    }
    """
    int helix_wrap_anext(type type_of) except -1


cdef enum:
    RETURNED = 0                # PySendResult
    YIELDED = 1
    MAX_PENDING_ENTRIES = 512   # as in plain/reader.py
    MAX_PENDING_BYTES = 1048576


cdef class ChunkIterator:
    """Yields buffered items, and those of the next push, each step without a coroutine. Owned by one thread."""

    def __cinit__(self, *args, **options):
        self._items = []

    cdef bint takes_pushes(self) except -1:
        """Whether the next item may come from a push; else `_advance` finds out what is to be done."""
        cdef PushBuffer pushes = self._pushes
        return (
            pushes is not None and pushes.live and not pushes.stale and not self._busy
            and self._running_loop() is pushes.loop and self._binding.loop is pushes.loop
        )

    cdef bint take_push(self) except -1:
        """Take the next push, if it has new chunks."""
        decoded = self._pushes.take_next()
        if decoded is None:
            return False
        self._take(decoded)
        return True

    def __aiter__(self):
        return self

    def __anext__(self):
        """The next item, taken when the step is awaited."""
        cdef _Step step = _Step.__new__(_Step)
        step.source = self
        return step


@cython.final
@cython.freelist(8)
@cython.no_gc_clear     # for __dealloc__; what it refers to breaks the cycles
cdef class _Step:
    """One step of an `async for`: a coroutine that takes an item, or awaits a push or `_advance` before, in C."""

    def __dealloc__(self):
        self.stop_waiting(self.source)      # dropped while it waited

    cdef void stop_waiting(self, ChunkIterator source) noexcept:
        if self.for_push:
            self.for_push = False
            source._busy = False

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
        cdef ChunkIterator source = self.source
        cdef PyObject* found = NULL
        self.stop_waiting(source)
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
        self.stop_waiting(self.source)
        self.source = None
        if self.waiting is not None:
            self.waiting.close()


cdef bint take_item(ChunkIterator source, PyObject** result) except -1:
    # The length too: these are attributes that Python code may set, and nothing is checked behind this.
    if 0 <= source._index < min(source._error_at, PyList_GET_SIZE(source._items)):
        item = source._items[source._index]
        source._index += 1
        Py_INCREF(item)
        result[0] = <PyObject*> item
        return True
    return False


cdef int send_step(object this, object value, PyObject** result) except -1:
    cdef _Step step = this
    cdef ChunkIterator source = step.source
    cdef PyObject* nothing = NULL
    if source is None:
        raise RuntimeError("this step was awaited already")
    if step.waiting is None:
        if take_item(source, result):
            step.source = None
            return RETURNED
        if source.takes_pushes():
            if PyList_GET_SIZE(source._pushes.pending):
                source.take_push()
                if take_item(source, result):
                    step.source = None
                    return RETURNED
            else:
                waiter = source._pushes.begin_wait()
                if not source._pushes.timed:
                    source._cursor.time_silence()
                step.waiting = waiter.__await__()
                step.for_push = source._busy = True
        if step.waiting is None:
            step.waiting = source._advance()
    try:
        if PyIter_Send(step.waiting, value, result) == YIELDED:
            return YIELDED
        nothing = result[0]
        result[0] = NULL    # as an error has it, by the contract of am_send
        Py_DECREF(<object> nothing)
        if step.for_push:
            step.stop_waiting(source)
            if not (source.take_push() and take_item(source, result)):
                # There is something else to do, or an error to raise.
                step.waiting = source._advance()
                return send_step(step, None, result)
            step.source = None
            return RETURNED
    except:  # noqa: E722  every exception goes on
        step.stop_waiting(source)
        step.source = None
        raise
    step.source = None
    if take_item(source, result):
        return RETURNED
    raise RuntimeError("there is no item")


helix_set_send(_Step, send_step)
helix_wrap_anext(ChunkIterator)


@cython.final
@cython.freelist(64)
@cython.no_gc       # bytes, numbers and chunks without cycles: one object less for the collector to visit
cdef class StreamEntry:
    """One stored batch, as its subscribers get it. Shared by all readers of the stream in this process."""

    def __init__(self, term, first, last, bytes body not None):
        self.term = u64(term, "term")
        self.first = u64(first, "first")
        self.last = u64(last, "last")
        self.body = body


cdef StreamEntry stream_entry(uint64_t term, uint64_t first, uint64_t last, bytes body):
    # Filled from here: its __init__ would cost as much again.
    cdef StreamEntry entry = StreamEntry.__new__(StreamEntry)
    entry.term, entry.first, entry.last, entry.body = term, first, last, body
    return entry


cdef bint same_term(bytes entry_id, uint64_t term) except -1:
    """Whether an entry id begins with the term and a dash; before the first entry every term will do."""
    cdef Number number
    cdef Py_ssize_t length
    if PyBytes_GET_SIZE(entry_id) == 0:
        return True
    write_number(&number, term)
    length = DIGITS - number.start
    return (
        PyBytes_GET_SIZE(entry_id) > length
        and memcmp(PyBytes_AS_STRING(entry_id), number.text + number.start, <size_t> length) == 0
        and PyBytes_AS_STRING(entry_id)[length] == c"-"
    )


cdef bytes make_entry_id(uint64_t term, uint64_t first):
    cdef char text[2 * DIGITS + 1]
    cdef Number number
    cdef char* end
    write_number(&number, term)
    end = put_number(text, &number)
    end[0] = c"-"
    write_number(&number, first)
    return PyBytes_FromStringAndSize(text, put_number(end + 1, &number) - text)


cdef list copies_of(list chunks):
    """A copy of each. Most are of one class, whose method is looked up once."""
    cdef list copies = []
    cdef object known = None
    cdef object copy = None
    for chunk in chunks:
        if type(chunk) is not known:
            known = type(chunk)
            copy = known.__copy__
        copies.append(copy(chunk))
    return copies


cdef object take_decoded(StreamEntry entry, object decoder, uint64_t seen):
    """One reader's chunks of an entry: decoded, or copies of what another reader has decoded."""
    cdef object shared
    if entry.readers < 2 and entry.decoded is None:
        return decoder.decode(entry.body, entry.last, seen)
    if entry.decoded is None:
        entry.decoded = decoder.decode_shared(entry.body, entry.last, seen)
        if entry.decoded is None:
            entry.readers = 0       # its chunks cannot be shared: each reader decodes
            return decoder.decode(entry.body, entry.last, seen)
    shared = entry.decoded
    if shared[0] != seen + 1:
        return decoder.decode(entry.body, entry.last, seen)
    entry.readers -= 1
    if entry.readers < 1:
        entry.decoded = None        # the last reader gets the originals
        return shared
    return shared[0], copies_of(shared[1]), False


@cython.nonecheck(True)
cdef class PushBuffer:
    """The pushes that one reader has not taken yet, and whether they count. Owned by one thread."""

    def __cinit__(self, *args, **options):
        self.entry_id = b""
        self.pending = []

    cdef int wake_reader(self) except -1:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
        return 0

    def wait(self):
        """A future that is done when anything happens; the wait for it begins."""
        return self.begin_wait()

    cdef object begin_wait(self):
        self.waiter = waiter = self.loop.create_future()
        self.since = self.loop.time()
        return waiter

    cdef int drop(self) except -1:
        self.pending.clear()
        self.pending_bytes = 0
        return 0

    cdef int require_log(self) except -1:
        self.stale = True
        self.drop()
        return self.wake_reader()

    def start(self):
        """The channel was joined: buffer its pushes, which count when the log has been read once more."""
        self.live = True
        self.resync()

    def begin_read(self):
        """The log is about to be read; whether the request must announce this reader."""
        cdef bint announce = self.announce_on_read
        self.stale = self.announce_on_read = False
        return announce

    def fail_read(self, bint announce):
        """The reading failed and must be repeated; `announce` is what `begin_read` returned for it."""
        self.announce_on_read = self.announce_on_read or announce
        self.require_log()

    def stop(self):
        """Take no more pushes."""
        self.live = False
        self.drop()
        self.wake_reader()

    cdef int put(self, StreamEntry entry) except -1:
        if not self.live:
            return 0
        if entry is None:
            return self.require_log()
        if not self.stale:
            self.pending_bytes += PyBytes_GET_SIZE(entry.body)
            self.pending.append(entry)
            if PyList_GET_SIZE(self.pending) > MAX_PENDING_ENTRIES or self.pending_bytes > MAX_PENDING_BYTES:
                return self.require_log()
        return self.wake_reader()

    def pushed(self, StreamEntry entry):
        """One message of the channel; None for one that only says that the log has something new."""
        self.put(entry)

    def resync(self):
        """The channel was joined, perhaps anew: messages may have been missed."""
        self.announce_on_read = True
        self.require_log()

    def mark_stale(self):
        """Have the log read."""
        self.require_log()

    def wake(self):
        """Wake the reader, if it waits."""
        self.wake_reader()

    def idle(self):
        """Whether there is nothing to do but to wait for a push."""
        return self.live and not self.stale and PyList_GET_SIZE(self.pending) == 0

    def next_pushed(self):
        """The chunks of the next push that has new ones; None where there is no such push."""
        return self.take_next()

    cdef object take_next(self):
        cdef StreamEntry entry
        cdef uint64_t seen
        while self.live and not self.stale and PyList_GET_SIZE(self.pending):
            entry = <StreamEntry?> self.pending.pop(0)
            self.pending_bytes -= PyBytes_GET_SIZE(entry.body)
            seen = self.window.last
            if entry.first < 1 or entry.first - 1 > seen or not same_term(self.entry_id, entry.term):
                # A hole, or a term that may be behind a reset: the log is the truth.
                self.require_log()
            elif entry.last > seen:
                self.window.last = entry.last
                self.entry_id = make_entry_id(entry.term, entry.first)
                return take_decoded(entry, self.decoder, seen)
        return None
