"""Whether a stream has subscribers in other processes, as the replies to publications and PUBSUB NUMSUB tell."""


@cython.final
cdef class Listeners:
    """Whether anybody elsewhere hears a stream's channel; see the twin."""

    def __init__(self, audience, bytes channel not None):
        self.audience = audience
        self.here = audience.here
        self.channel = channel
        self.changes = audience.changes
        self.elsewhere = True

    def come(self):
        """Somebody has come, or may have; see the twin."""
        self.elsewhere = True
        self.stale = self.flying

    def others(self, count):
        """Whether so many subscriptions are more than this process's own; see the twin."""
        entry = self.here.get(self.channel)
        return count > (entry is not None and entry.heard)

    def __call__(self, reply):
        """The reply to a publication; an error tells nothing."""
        self.flying -= 1
        if self.changes != self.audience.changes:
            self.changes = self.audience.changes
            self.stale = self.flying
        elif self.stale:
            self.stale -= 1
        elif PyLong_CheckExact(reply) and not self.audience.blind:
            self.elsewhere = self.others(reply)


def count_frame(word, list publishers not None):
    """RESP that asks how many hear each publisher's channel; see the twin."""
    cdef FastAppend publisher
    cdef list channels = [b"PUBSUB", word]
    for one in publishers:
        publisher = <FastAppend?> one
        publisher.silent = False
        channels.append(publisher.listeners.channel)
    return frame_command(channels)


def heard_elsewhere(list publishers not None, list counts not None):
    """Those of the publishers that somebody elsewhere hears; see the twin."""
    cdef FastAppend publisher
    cdef Listeners listeners
    cdef Py_ssize_t at
    cdef list found = []
    if PyList_GET_SIZE(counts) != 2 * PyList_GET_SIZE(publishers):
        raise ValueError("there is not one count for each publisher")
    for at in range(PyList_GET_SIZE(publishers)):
        publisher = <FastAppend?> publishers[at]
        listeners = publisher.listeners
        if listeners.others(counts[2 * at + 1]):
            found.append(publisher)
    return found
