"""Hot: the append path of one chunk. Outgoing requests, batches, publication; it calls the lane that it gets."""


cpdef enum:                      # read by streams/ too
    MAX_BATCH_BYTES = 65536


@cython.final
cdef class Outbox:
    """Requests that wait for the next write, and the slots for their replies. Owned by one thread."""

    def __cinit__(self):
        self.frames = []
        self.slots = []
        self.ready = []

    cdef bint put(self, object frame, object slot) except -1:
        if type(frame) is tuple:
            self.put_pieces(frame)
        else:
            require_bytes(frame, "frame")
            self.frames.append(frame)
            self.size += PyBytes_GET_SIZE(frame)
        self.slots.append(slot)
        self.requests += 1
        return not self.scheduled

    cdef int put_pieces(self, tuple pieces) except -1:
        for piece in pieces:
            require_bytes(piece, "frame")
        for piece in pieces:
            self.frames.append(piece)
            self.size += PyBytes_GET_SIZE(piece)
        return 0

    def add(self, frame, slot):
        """Add one, whole or in pieces; whether a write must be scheduled."""
        return self.put(frame, slot)

    def take_ready(self):
        """The appenders that are ready; they are not any more."""
        ready = self.ready
        self.ready = []
        return ready

    def clear(self):
        """Drop the requests."""
        self.frames.clear()
        self.slots.clear()
        self.size = 0


@cython.final
@cython.freelist(64)
cdef class Write:
    """One awaited write: of `count` chunks, `acked` are stored, the last of them at sequence `last`."""

    def __cinit__(self):
        self.fresh = True

    def __init__(self, original, Py_ssize_t count, future, owner=None):
        self.owner = owner
        self.original = original
        self.count = count
        self.future = future

    cdef int stored(self, Py_ssize_t chunks, uint64_t last) except -1:
        self.acked += chunks
        self.last = last
        if self.acked == self.count and not self.future.done():
            self.future.set_result(last)
        return 0

    def acknowledge(self, Py_ssize_t chunks, uint64_t last):
        """Count `chunks` more as stored, the last of them at `last`; with all stored, the future gets it."""
        self.stored(chunks, last)

    def fail(self, error):
        """Fail the call, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


@cython.final
@cython.freelist(64)
cdef class Batch:
    """A closed batch. One of a single awaited chunk has its write in `only`, to save a list."""

    def __init__(self, bytes body not None, Py_ssize_t count, writes, bytes nonce not None, only=None):
        self.body = body
        self.count = count
        self.only = only
        self.several = writes
        self.nonce = nonce

    @property
    def writes(self):
        """(write, its chunks in the batch, end of them in the batch) of each awaited write."""
        if self.only is not None:
            return [(self.only, 1, 1)]
        return self.several or []

    @writes.setter
    def writes(self, list writes):
        self.only = None
        self.several = writes

    def lines(self, *, awaited):
        """The chunks of awaited writes, or all others."""
        mine = set()
        for _write, count, end in self.writes:
            mine.update(range(end - count, end))
        return [line for n, line in enumerate(self.body.split(b"\n")) if (n in mine) == awaited]


cdef enum:      # as in codec/states.py
    STATE_IDLE, STATE_SUSPENDED, STATE_READY, STATE_IN_FLIGHT, STATE_RECOVERING, STATE_CLOSED


@cython.nonecheck(True)
cdef class FastAppend:
    """Fast path of `write()`: with nothing buffered, one chunk goes out as one XADD and is published when acknowledged.

    Batching, retries and recovery are in `streams.appender.Appender`. Owned by one thread.
    """

    def __init__(
        self, stream_id, topology, framer, terms, buffer, nonce, max_length, linger, make_future, call_soon, loop_closed
    ):
        self.stream_id = stream_id
        self.topology = topology
        self.lane = topology.lane_for(stream_id)
        self.framer = framer
        self.terms = terms
        self._buffer = buffer
        self.sequence = buffer.sequence
        self.open = buffer.open
        self.batches = buffer.batches
        self.flushes = buffer.flushes
        self.max_count = buffer.max_count
        self.trimmed = self.trims = self.sequence.last
        self.nonce = nonce
        self.max_length = max_length
        self.linger = linger
        self.make_future = make_future
        self.call_soon = call_soon
        self.loop_closed = loop_closed
        self.subscribers = RemoteSubscribers(topology.presence, framer.channel)

    @property
    def closed(self):
        """Whether nothing more can be written."""
        return self.state == STATE_CLOSED

    @property
    def buffer(self):
        """The write buffer, which has the batch in flight from now on."""
        # The fast path keeps its batch here until the buffer is needed: with many streams each object is a cache miss.
        if self.single is not None:
            self._buffer.in_flight = self.single
            self.single = None
        return self._buffer

    cdef int post(self, frame, slot, bint follow) except -1:
        if self.lane is None or self.lane.closed:
            self.topology.send(self.stream_id, frame, slot, follow=follow)
        elif (<Outbox?> self.lane.outbox).put(frame, slot):
            self.lane.wake()
        return 0

    cdef int join(self, double delay) except -1:
        cdef Outbox outbox
        self.state = STATE_READY
        # An observer wants the context of the task that sends: the lane's is another.
        if delay or self.lane is None or self.lane.closed or self.topology.observer is not None:
            self.schedule(delay)
            return 0
        outbox = <Outbox?> self.lane.outbox
        outbox.ready.append(self)
        if not outbox.scheduled:
            self.lane.wake()
        return 0

    cdef int go_on(self) except -1:
        if self.open.count or self.batches:
            self.join(0.0)
        else:
            self.state = STATE_IDLE
        return 0

    cdef bytes nonce_of_next(self):
        cdef char text[8]
        cdef int place
        if PyBytes_GET_SIZE(self.nonce) != 4:
            raise ValueError("a nonce has 4 characters")
        self.numbered += 1
        memcpy(text, PyBytes_AS_STRING(self.nonce), 4)
        for place in range(4):
            text[7 - place] = helix_hex_digits[(self.numbered >> (4 * place)) & 15]
        return PyBytes_FromStringAndSize(text, 8)

    def next_nonce(self):
        """8 characters that no other batch has."""
        return self.nonce_of_next()

    def transmit(self, frame):
        """Send the request of the batch in flight; `__call__` gets the reply."""
        # An append does not follow its slot to another node, which may know less: Recovery inspects the stream first.
        self.post(frame, self, False)

    def enlist(self, double delay):
        """Have the next batch sent on this turn of the event loop, or `delay` seconds from now."""
        self.join(delay)

    def advance(self):
        """Nothing is in flight any more: go on with the next batch, if there is one."""
        self.go_on()

    def send_text(self, ChunkEncoder encoder not None, delta, double seconds):
        """Add a `text_delta` that is not awaited, of that time (Unix, seconds). Raises as `encode_text`."""
        cdef Text text
        if self.open.count == 0 or self.loop_closed():
            self.check_loop()   # once a batch: it costs as much as adding a chunk
        if self.state == STATE_CLOSED:
            self.check_open()
        read_text(&text, delta, "delta")
        self.open.append_text(encoder, &text, <uint64_t> (seconds * 1000))
        if self.open.size >= MAX_BATCH_BYTES or self.open.count >= self.max_count:
            self._buffer.close_batch()
        if self.state < STATE_READY:
            self.join(self.linger)

    def put(self, chunk, original, owner):
        """Add one chunk; returns its Write, whose future gets the sequence once the chunk is stored."""
        cdef Write write
        cdef Batch batch
        if (
            self.state != STATE_IDLE or self.linger or self.assisted_batches or self.failed.writes
            or self.topology.observer is not None or self.sequence.last == UINT64_MAX
            or self.generation != (
                self.lane.next_generation if self.lane is not None else self.topology.generation(self.stream_id)
            )
            or (self.max_length and self.sequence.last + 1 - self.trimmed >= <uint64_t> self.max_count)
        ):
            return self.put_many((chunk,), original, owner)
        require_bytes(chunk, "chunk")
        # Filled from here: their __init__ would cost as much again as all of this.
        write = Write.__new__(Write)
        write.owner = owner
        write.original = original
        write.count = 1
        write.future = self.make_future()
        batch = Batch.__new__(Batch)
        batch.body = chunk
        batch.count = 1
        batch.nonce = self.nonce_of_next()
        batch.only = write
        batch.first = self.sequence.last + 1
        batch.sent = True
        self.sequence.in_flight = 1
        self.single = batch
        self.state = STATE_IN_FLIGHT
        try:
            frame = self.framer.append_frame(
                self.terms.current, batch.first, batch.first, batch.body, batch.nonce, None
            )
            self.post(frame, self, False)
        except Exception as error:
            self.suspend(error)
        return write

    cdef bint publish(self, uint64_t first, uint64_t last, bytes body) except -1:
        cdef RemoteSubscribers remote = self.subscribers
        # The first test saves a lookup: with many streams the name's bytes would be read from memory, for each chunk.
        cdef object channel = remote.local.get(remote.channel) if remote.local else None
        if channel is not None:
            channel.push_entry(stream_entry(self.terms.current, first, last, body))
        if remote.present:
            frame = self.framer.push_frame(self.terms.current, first, last, body)
            remote.pending += 1
            self.post(frame, remote, True)
        elif not self.silent:
            self.silent = True
            remote.presence.poll_later(self)
        return channel is not None

    def announce(self, first, last, bytes body not None):
        """Hand a stored batch to local subscribers and publish it for remote ones; whether there are local ones."""
        return self.publish(u64(first, "first"), u64(last, "last"), body)

    def notify_catch_up(self):
        """Have the stream's subscribers read its log."""
        self.subscribers.pending += 1
        self.post(self.framer.catch_up_frame, self.subscribers, True)

    def __call__(self, reply):
        """The reply to the batch in flight."""
        cdef Batch batch
        cdef Write write
        cdef bint here = False
        if self.state != STATE_IN_FLIGHT:
            return      # closed meanwhile: its writes have failed
        batch = self.single if self.single is not None else <Batch?> self._buffer.in_flight
        if type(reply) is not bytes or batch.only is None or self.flushes or self.observed is not None:
            self.replied(reply)
            return
        write = batch.only
        self.sequence.last += self.sequence.in_flight
        self.sequence.in_flight = 0
        self.trouble = None
        self.trimmed = self.trims
        if self.single is None:
            self._buffer.in_flight = None
        self.single = None
        # Only now: pushed together with the append, a batch that Redis refuses would reach the readers too.
        try:
            here = self.publish(batch.first, batch.first, batch.body)
        finally:
            # Readers in this process run before the writer, which may take its time.
            if here:
                self.call_soon(write.acknowledge, 1, batch.first)
            else:
                write.stored(1, batch.first)
            self.go_on()
