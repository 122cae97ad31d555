"""
Which deployment has most likely seen the beginning of a prompt before.

Vendors and servers keep what they computed of a prompt's beginning, for calls that begin alike: cheaper, and faster to the first token.
So calls that begin alike are led to one deployment, by rendezvous hashing (Thaler and Ravishankar, 1996): every replica finds the
same one without asking, and when a deployment comes or goes, only what was led there moves.

It is a wish, not a pin: `lua/choose.lua` follows it only where load and latency allow.
"""

from collections.abc import Sequence
from zlib import crc32

__all__ = ["LEAST_TOKENS", "favourite", "prefix_hash"]

# What is shorter is not kept by any vendor (1024 tokens at OpenAI and Anthropic).
LEAST_TOKENS = 1024
# So much of a prompt tells conversations apart that do not begin alike.
PREFIX_BYTES = 4096


def prefix_hash(body: bytes, start: int) -> int:
    """Return the hash of a prompt's beginning; `start` is where its first large member begins in the body."""
    return crc32(memoryview(body)[start : start + PREFIX_BYTES])


def favourite(prefix: int, deployments: Sequence[str]) -> int:
    """Return the place of the deployment that a prefix is led to."""
    best, chosen = -1, 0
    for place, deployment in enumerate(deployments):
        # Twice: a CRC alone is linear, and would order all prefixes alike.
        score = crc32(crc32(deployment.encode(), prefix).to_bytes(4, "big"), prefix) * 2654435761
        score = (score ^ (score >> 16)) & 0xFFFFFFFF
        if score > best:
            best, chosen = score, place
    return chosen
