"""What a server answers as a whole: read to its end, and never further than a bound."""

from typing import Final

import aiohttp

__all__ = ["PIECE_BYTES", "read_document"]

PIECE_BYTES: Final = 64 * 1024


async def read_document(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body of an answer, and nothing of one that is longer than `most` bytes: a part of it would be no document."""
    pieces: list[bytes] = []
    size = 0
    # Not `content.read(most)`, which gives what has arrived so far.
    async for piece in answer.content.iter_chunked(PIECE_BYTES):
        size += len(piece)
        if size > most:
            return b""
        pieces.append(piece)
    return b"".join(pieces)
