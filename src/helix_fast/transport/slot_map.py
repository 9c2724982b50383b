"""SlotMap: which node of a cluster serves which slot."""

from __future__ import annotations

from typing import Any, Final

from redis.crc import key_slot

Address = tuple[str, int]
_TAGS_CACHED: Final = 65_536


class SlotMap:
    """The primary of each slot, as far as it is known. False while no slot is known."""

    def __init__(self) -> None:
        self._addresses: dict[int, Address] = {}
        self._moves: dict[int, int] = {}
        self._slot_of: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def slot(self, tag: str) -> int:
        """The slot of the keys tagged ``tag``; any slot for the empty tag."""
        slot = self._slot_of.get(tag)
        if slot is None:
            if len(self._slot_of) >= _TAGS_CACHED:
                self._slot_of.clear()
            slot = self._slot_of[tag] = key_slot(tag.encode())
        return slot

    def address(self, slot: int) -> Address | None:
        """The primary of a slot; None where it is not known."""
        return self._addresses.get(slot)

    def address_of_channel(self, channel: bytes) -> Address | None:
        """The primary of a channel's slot; None where it is not known."""
        return self._addresses.get(key_slot(channel))

    def primaries(self) -> set[Address]:
        """The nodes that serve slots."""
        return set(self._addresses.values())

    def assign(self, slot: int, address: Address) -> None:
        """A node serves a slot from now on."""
        if self._addresses.get(slot) != address:
            self._addresses[slot] = address
            self._moves[slot] = self._moves.get(slot, 0) + 1

    def moves(self, slot: int) -> int:
        """How often the slot's primary has changed, the first included."""
        return self._moves.get(slot, 0)


def parse_slots(reply: Any, asked: Address) -> dict[int, Address]:
    """The primary of each slot, from the reply of CLUSTER SLOTS; a node without a host is the one that was asked."""
    slots: dict[int, Address] = {}
    for start, end, primary, *_replicas in reply:
        address = ((primary[0] or b"").decode() or asked[0], int(primary[1]))
        slots.update(dict.fromkeys(range(start, end + 1), address))
    return slots
