"""Hot: whether a stream has subscribers in other processes, by the replies that count them."""


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
