"""Hot: the subscribers of a stream. Whether other processes have some; what those of this process are given."""


@cython.final
cdef class RemoteSubscribers:
    """Whether a process other than this one subscribes to a stream's channel. Owned by one thread."""

    def __init__(self, presence, bytes channel not None):
        self.presence = presence
        self.local = presence.local
        self.channel = channel
        self.subscribe_epoch = presence.subscribe_epoch
        self.present = True

    def assume_present(self):
        """A subscriber has arrived, or may have: ignore the counts in pending replies."""
        self.present = True
        self.stale = self.pending

    def exceeds_local(self, count):
        """Whether that many subscriptions are more than this process's own."""
        channel = self.local.get(self.channel)
        return count > (channel is not None and channel.counted)

    def __call__(self, reply):
        """Take the reply to a publication, the count of its receivers; an error changes nothing."""
        self.pending -= 1
        if self.subscribe_epoch != self.presence.subscribe_epoch:
            self.subscribe_epoch = self.presence.subscribe_epoch
            self.stale = self.pending
        elif self.stale:
            self.stale -= 1
        elif PyLong_CheckExact(reply) and not self.presence.counts_unreliable:
            self.present = self.exceeds_local(reply)


def push_entry(list subscribers not None, StreamEntry entry):
    """Give an entry to every subscriber, of a list of weak references; None has them read the log."""
    if entry is not None:
        entry.readers = PyList_GET_SIZE(subscribers)
    for reference in subscribers:
        subscriber = reference()
        if type(subscriber) is PushBuffer:
            (<PushBuffer> subscriber).put(entry)
        elif subscriber is not None:
            subscriber.pushed(entry)


def push_payload(list subscribers not None, bytes payload not None):
    """The same with the entry of a published payload; None for one that is no entry, as the message to catch up."""
    cdef uint64_t term = 0, first = 0, last = 0
    cdef const char* body = parse_position(payload, &term, &first, &last)
    if body == NULL:
        push_entry(subscribers, None)
        return
    push_entry(subscribers, stream_entry(term, first, last, PyBytes_FromStringAndSize(
        body, PyBytes_AS_STRING(payload) + PyBytes_GET_SIZE(payload) - body
    )))


cdef const char* message_at(const char* at, const char* end) noexcept nogil:
    """Reads what a message of a channel begins with; returns what follows, NULL: not that, or incomplete."""
    cdef const char* name = reply_word(at, end, b"*3\r\n$7\r\nmessage\r\n", 17)
    return name if name != NULL else reply_word(at, end, b"*3\r\n$8\r\nsmessage\r\n", 18)


def deliver_messages(ReplyCutter cutter not None, dict channels not None):
    """Give the messages that were received to their channels, up to the next reply that is none, which is returned."""
    cdef const char* at
    cdef const char* end
    cdef const char* name = NULL
    cdef const char* text = NULL
    cdef Py_ssize_t length = 0, size = 0
    while True:
        end = cutter.buffer + cutter.end
        at = message_at(cutter.buffer + cutter.start, end) if cutter.end > cutter.start else NULL
        if at != NULL:
            at = reply_string(at, end, &name, &length)
        if at != NULL:
            at = reply_string(at, end, &text, &size)
        if at == NULL:
            return cutter.next()
        channel = channels.get(PyBytes_FromStringAndSize(name, length))
        payload = PyBytes_FromStringAndSize(text, size)
        # Before anything else runs, which may feed or empty the cutter.
        cutter.start = cutter.at = at - cutter.buffer
        cutter.left = 1
        if channel is not None:
            channel.receive(payload)
