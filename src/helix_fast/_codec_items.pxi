"""What a reader has at hand: an `async for` takes each item of it without a coroutine, the costly part of a step."""

cdef extern from "Python.h":
    int PyIter_Send(object iterator, object value, PyObject** result) except -1


cdef extern from *:
    """
    /* Cython has no name for this slot: by it the interpreter gets a result without an exception to carry it. */
    static void helix_set_send(PyObject *type_of, int (*send)(PyObject *, PyObject *, PyObject **)) {
        ((PyTypeObject *)type_of)->tp_as_async->am_send = (sendfunc)(void *)send;
    }
    """
    void helix_set_send(type type_of, int (*send)(object, object, PyObject**) except -1)


cdef enum:
    RETURNED = 0                # PySendResult
    YIELDED = 1


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
    """One step of an `async for`: what a coroutine that takes an item, or else awaits `_more`, would be."""

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
        self.source = None
        if self.waiting is not None:
            return self.waiting.throw(kind if value is None else value)
        raise kind if value is None else value

    def close(self):
        """End it."""
        self.source = None
        if self.waiting is not None:
            self.waiting.close()


cdef int send_step(object this, object value, PyObject** result) except -1:
    cdef _Step step = this
    cdef Items source = step.source
    if step.waiting is None:
        if source is None:
            raise RuntimeError("this step was awaited already")
        step.source = None
        # The length too: these are attributes that anybody may set, and nothing is checked behind this.
        if 0 <= source._index < min(source._clean, PyList_GET_SIZE(source._items)):
            item = source._items[source._index]
            source._index += 1
            Py_INCREF(item)
            result[0] = <PyObject*> item
            return RETURNED
        step.waiting = source._more()
    return PyIter_Send(step.waiting, value, result)


helix_set_send(_Step, send_step)
