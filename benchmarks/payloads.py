"""The texts that are streamed: the headline chunk of about 113 bytes, and three sizes of four kinds."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

AGENT_ID: Final = "run-abc123"
AGENT_TYPE: Final = "assistant"
TIMESTAMP: Final = 1_702_329_600_000
HEADLINE: Final = "Hello, "
SIZES: Final = (20, 200, 2000)
# CJK and emoji apart: Python keeps the one in two bytes a character, the other in four.
_SAMPLES: Final = {
    "ascii": "The quick brown fox jumps over the lazy dog, and then it sleeps. ",
    "cjk": "敏捷的棕色狐狸跳过了懒狗，然后睡着了。日本語もあります。",
    "emoji": "Look: 🦊 jumps 🐕💤, then 日本 🎌 and 👩‍💻🚀! ",
    "escaped": 'He said: "no",\n\tand "\\o/" again.\n"Why?" - "Because."\r\n',
}


class Payload(NamedTuple):
    """A text and its name, such as ``cjk-200``."""

    name: str
    text: str


def cut(sample: str, size: int) -> str:
    """``size`` bytes of UTF-8, filled up with dots where a character would be cut in two."""
    data = (sample * (size // len(sample.encode()) + 1)).encode()[:size]
    text = data.decode(errors="ignore")
    return text + "." * (size - len(text.encode()))


DEFAULT: Final = Payload("headline", HEADLINE)
PAYLOADS: Final = tuple(
    Payload(f"{kind}-{size}", cut(sample, size)) for kind, sample in _SAMPLES.items() for size in SIZES
)


def payloads_for(*, full: bool) -> tuple[Payload, ...]:
    """All of them, or one of each kind."""
    return PAYLOADS if full else tuple(payload for payload in PAYLOADS if payload.name.endswith("-200"))


def payload_of(name: str) -> Payload:
    """The payload of this name. ValueError where there is none."""
    for payload in (DEFAULT, *PAYLOADS):
        if payload.name == name:
            return payload
    raise ValueError(f"no payload {name}; there are {', '.join(one.name for one in (DEFAULT, *PAYLOADS))}")


def numbered(text: str, number: int) -> str:
    """``text``, as long as it was, beginning with a number of five digits: no two chunks of a stream are equal."""
    return f"{number:05}{cut(text, len(text.encode()) - 5)}"


def chunk_json(text: str) -> bytes:
    """The chunk in its wire form."""
    return msgspec.json.encode(
        {"type": "text_delta", "delta": text, "agentId": AGENT_ID, "agentType": AGENT_TYPE, "timestamp": TIMESTAMP}
    )
