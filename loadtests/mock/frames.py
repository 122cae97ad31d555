"""
Amazon's event streams, written: binary frames with headers, a payload and two checksums.

    total length (4) · headers length (4) · CRC of these 8 bytes (4)
    headers: name length (1) · name · 7 for a string (1) · value length (2) · value
    payload · CRC of all that is before (4)

All numbers are big-endian.
Source: AWS, "Event stream encoding" (Amazon Transcribe's developer guide describes it for all services).
"""

import struct
from collections.abc import Mapping
from zlib import crc32

_STRING = 7


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Write a frame; its headers are strings."""
    head = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    lengths = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    told = lengths + struct.pack(">I", crc32(lengths)) + head + payload
    return told + struct.pack(">I", crc32(told))


def damaged(whole: bytes) -> bytes:
    """Give a frame with one bit of its last checksum wrong."""
    return whole[:-1] + bytes((whole[-1] ^ 1,))


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack(">B", len(name)) + name + struct.pack(">BH", _STRING, len(value)) + value
