"""The straight way of an awaited chunk: out as a batch of its own, acknowledged, published. The rest is elsewhere."""


cpdef enum:                      # read by streams/ too
    MAX_BATCH_BYTES = 65536


@cython.final
cdef class Outbox:
    """Requests that wait for the next write, and who gets their replies. Owned by one thread."""

    def __cinit__(self):
        self.frames = []
        self.slots = []

    cdef bint put(self, object frame, object slot) except -1:
        require_bytes(frame, "frame")
        self.frames.append(frame)
        self.slots.append(slot)
        self.size += PyBytes_GET_SIZE(frame)
        self.requests += 1
        return not self.scheduled

    def add(self, frame, slot):
        """Put one in; see the stub for the contract."""
        return self.put(frame, slot)

    def clear(self):
        """Empty it."""
        self.frames.clear()
        self.slots.clear()
        self.size = 0


@cython.final
@cython.freelist(64)
cdef class Write:
    """One awaited write; see the twin."""

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

    def settle(self, Py_ssize_t chunks, uint64_t last):
        """`chunks` more of it are stored, the last of them at `last`."""
        self.stored(chunks, last)

    def fail(self, error):
        """Tell the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


@cython.final
@cython.freelist(64)
cdef class Sealed:
    """A batch whose bytes are fixed; see the twin."""

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
        """The chunks that were given to an awaited write, or those that were not."""
        mine = set()
        for _write, count, end in self.writes:
            mine.update(range(end - count, end))
        return [line for n, line in enumerate(self.body.split(b"\n")) if (n in mine) == awaited]


@cython.nonecheck(True)
cdef class StraightAppender:
    """See the twin. Owned by one thread."""

    def __init__(
        self, stream_id, topology, framer, terms, last, nonce, max_length, max_count, linger, make_future, call_soon
    ):
        self.stream_id = stream_id
        self.topology = topology
        self.lane = topology.lane_for(stream_id)
        self.framer = framer
        self.terms = terms
        self.sequence = Sequencer(last)
        self.trimmed = self.trims = u64(last, "last")
        self.nonce = nonce
        self.max_length = max_length
        self.max_count = max_count
        self.linger = linger
        self.make_future = make_future
        self.call_soon = call_soon
        self.batch = Batch()
        self.subscribers = RemoteSubscribers(topology.presence, framer.channel)

    cdef int post(self, frame, slot, bint follow) except -1:
        if self.lane is None or self.lane.closed:
            self.topology.send(self.stream_id, frame, slot, follow=follow)
        elif (<Outbox?> self.lane.outbox).put(frame, slot):
            self.lane.wake()
        return 0

    cdef bytes nonce_of_next(self):
        cdef char text[8]
        cdef int place
        if PyBytes_GET_SIZE(self.nonce) != 4:
            raise ValueError("a nonce has 4 characters")
        self.batches += 1
        memcpy(text, PyBytes_AS_STRING(self.nonce), 4)
        for place in range(4):
            text[7 - place] = helix_hex_digits[(self.batches >> (4 * place)) & 15]
        return PyBytes_FromStringAndSize(text, 8)

    def next_nonce(self):
        """8 characters that no other batch has."""
        return self.nonce_of_next()

    def send_text(self, ChunkEncoder encoder not None, delta, double seconds):
        """Add a `text_delta` that nobody waits for; see the stub for the contract."""
        cdef Text text
        read_text(&text, delta, "delta")
        self.batch.append_text(encoder, &text, <uint64_t> (seconds * 1000))
        if self.batch.size >= MAX_BATCH_BYTES or self.batch.count >= self.max_count:
            self.seal()
        if not self.busy and self.scheduled is None:
            self.schedule()

    def put(self, chunk, original, owner):
        """Add one chunk; see the stub for the contract."""
        cdef Write write
        cdef Sealed batch
        if (
            self.busy or self.linger or self.flight is not None or self.batch.count or self.assisted_batches
            or self.dead is not None or self.sequence.flying or self.sequence.last == UINT64_MAX
            or self.queue or self.raised.writes
            or self.topology.observer is not None
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
        batch = Sealed.__new__(Sealed)
        batch.body = chunk
        batch.count = 1
        batch.nonce = self.nonce_of_next()
        batch.only = write
        batch.first = self.sequence.last + 1
        batch.sent = True
        self.sequence.flying = 1
        self.given += 1
        self.flight = batch
        self.busy = True
        try:
            frame = self.framer.append_frame(
                self.terms.number, batch.first, batch.first, batch.body, batch.nonce, None
            )
            # An append does not follow its slot to another node, which may know less: then the stream is looked at.
            self.post(frame, self, False)
        except Exception as error:
            self.pause(error)
        return write

    cdef bint tell(self, uint64_t first, uint64_t last, bytes body) except -1:
        cdef RemoteSubscribers remote = self.subscribers
        # Not looked up in vain: with many streams the name's bytes would have to come from memory, for each chunk.
        cdef object channel = remote.local.get(remote.channel) if remote.local else None
        if channel is not None:
            channel.push_entry(stream_entry(self.terms.number, first, last, body))
        if remote.present:
            frame = self.framer.push_frame(self.terms.number, first, last, body)
            remote.pending += 1
            self.post(frame, remote, True)
        elif not self.silent:
            self.silent = True
            remote.presence.poll_later(self)
        return channel is not None

    def announce(self, first, last, bytes body not None):
        """Deliver a stored batch: to the readers in this process at once, to others by a publication."""
        return self.tell(u64(first, "first"), u64(last, "last"), body)

    def notify_catch_up(self):
        """Have the stream's subscribers read its log."""
        self.subscribers.pending += 1
        self.post(self.framer.catch_up_frame, self.subscribers, True)

    def __call__(self, reply):
        """The reply to the batch in flight."""
        cdef Sealed batch
        cdef Write write
        cdef bint here = False
        if self.flight is None:
            return
        batch = self.flight
        if type(reply) is not bytes or batch.only is None or self.flushes or self.observed is not None:
            self.replied(reply)
            return
        write = batch.only
        self.sequence.last += self.sequence.flying
        self.sequence.flying = 0
        self.collisions = 0
        self.flight = self.trouble_since = None
        self.busy = self.in_trouble = False
        self.trimmed = self.trims
        self.settled += 1
        # Only now: pushed together with the append, a batch that Redis refuses would reach the readers too.
        try:
            here = self.tell(batch.first, batch.first, batch.body)
        finally:
            # What listens here comes first, then the writer, which may take its time.
            if here:
                self.call_soon(write.settle, 1, batch.first)
            else:
                write.stored(1, batch.first)
        if self.queue or self.batch.count:
            self.pump()
