"""Which commands the server's user may use: tries each on a key that is deleted afterwards."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from helix_fast.errors import HelixError, StoreResponseError
from helix_fast.requests import Requests

from .findings import Finding

# Forms that change nothing where the key holds a string, which it does but for the first and the last of them: what
# would change it is of the wrong type then, and is refused for that, not for want of rights.
_FORMS: Final = """
ping; time; info server; eval return+1 0; evalsha 0000000000000000000000000000000000000000 0; publish CHANNEL doctor
pubsub|numsub CHANNEL
copy KEY KEY:copy; incr KEY; pexpire KEY 60000; set KEY 1 XX KEEPTTL; get KEY; mget KEY; exists KEY; ttl KEY; pttl KEY
xadd KEY NOMKSTREAM * f v; xrange KEY - + COUNT 1; xrevrange KEY + - COUNT 1; xtrim KEY MAXLEN 0; xlen KEY
hget KEY f; hgetall KEY; hmget KEY f; hset KEY f v; hsetnx KEY f v; hdel KEY f; hlen KEY; hincrby KEY f 1
lindex KEY 0; llen KEY; lrange KEY 0 0; lset KEY 0 v; ltrim KEY 0 0; rpush KEY v
sadd KEY m; scard KEY; smembers KEY; srem KEY m
zadd KEY 1 m; zcard KEY; zrange KEY 0 0; zrangebyscore KEY 0 0; zrank KEY m; zrem KEY m; zremrangebyscore KEY 0 0
zrevrange KEY 0 0; zrevrangebyscore KEY 0 0; zscore KEY m
persist KEY; expire KEY 60; expireat KEY 1; rename KEY:copy KEY:copy; unlink KEY:copy; del KEY
"""
TRIED: Final = tuple(form.split() for line in _FORMS.strip().splitlines() for form in line.split("; "))
"""Each command with its subcommand and arguments. Reading a stream live tries (UN)SUBSCRIBE."""
SHARDED: Final = (("spublish", "CHANNEL", "doctor"), ("pubsub|shardnumsub", "CHANNEL"))
"""Tried on clusters. A refusal shows in no error: readers fall back to reading the log, only later."""


async def look_at_rights(requests: Requests, name: str, channel: bytes, *, cluster: bool = False) -> Finding:
    """Whether the user may use the commands, keys and channels that the stores need.

    Args:
        name: a key that nobody uses; ``channel``: one that nobody hears.
        cluster: whether the server is a node of one.
    """
    forms = (*TRIED, *SHARDED) if cluster else TRIED
    words = {"KEY": name.encode(), "KEY:copy": f"{name}:copy".encode(), "CHANNEL": channel, "return+1": b"return 1"}
    answers = await asyncio.gather(
        *(
            requests.command(name, *command.split("|"), *(words.get(word, word.encode()) for word in arguments))
            for command, *arguments in forms
        ),
        return_exceptions=True,
    )
    missing: list[str] = []
    for form, answer in zip(forms, answers, strict=True):
        if isinstance(answer, StoreResponseError) and answer.server_code == "NOPERM":
            missing.append(needed(form[0], str(answer), words))
        elif isinstance(answer, BaseException) and not isinstance(answer, StoreResponseError):
            if isinstance(answer, HelixError):
                return Finding("rights", "error", str(answer), answer.hint)
            raise answer
    if missing:
        rights = " ".join(dict.fromkeys(missing))
        return Finding("rights", "error", f"the user lacks {rights}", f"ACL SETUSER <user> {rights}")
    return Finding("rights", "ok", f"all {len(forms)} commands that were tried are allowed")


def needed(command: str, refusal: str, words: dict[str, bytes]) -> str:
    """The right that a refusal asks for, as ACL SETUSER takes it."""
    if re.search(r"\bchannel", refusal):
        return f"&{words['CHANNEL'].decode().partition('stream:')[0]}*"
    if re.search(r"\bkeys?\b", refusal):
        return f"~{words['KEY'].decode().partition('stream:')[0]}*"
    return f"+{command}"
