"""CRC-32C, which guards every record of TensorBoard's event files. The standard library has another CRC-32 only."""

from __future__ import annotations

import numpy as np

_POLYNOMIAL = 0x82F63B78
_LANE = 1024
"""Bytes of a long text that one lane goes through; the lanes go side by side."""


def _table() -> list[int]:
    found = []
    for byte in range(256):
        state = byte
        for _ in range(8):
            state = (state >> 1) ^ (_POLYNOMIAL if state & 1 else 0)
        found.append(state)
    return found


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Give the CRC-32C (Castagnoli) of ``data``, 0 … 2³²-1. Pictures take milliseconds a megabyte."""
    if len(data) < 4 * _LANE:
        state = 0xFFFFFFFF
        for byte in data:
            state = _TABLE[(state ^ byte) & 0xFF] ^ (state >> 8)
        return state ^ 0xFFFFFFFF
    return _side_by_side(data) ^ 0xFFFFFFFF


def _side_by_side(data: bytes) -> int:
    """Cut the text into lanes, go through all of them at once, and join the states: the CRC is linear over bits.

    To begin with all bits set is to begin with none and the first four bytes inverted. Zeros in front change nothing
    then, so the text may be filled up to whole lanes there.
    """
    lanes = -(-len(data) // _LANE)
    text = np.zeros(lanes * _LANE, np.uint8)
    text[-len(data) :] = np.frombuffer(data, np.uint8)
    text[-len(data) : len(text) - len(data) + 4] ^= 0xFF
    steps = np.zeros((_LANE, lanes + 32), np.uint32)
    steps[:, :lanes] = text.reshape(lanes, _LANE).T
    # 32 more lanes see zeros only, each from one bit: what they end with tells what a lane of zeros does to any state.
    states = np.concatenate([np.zeros(lanes, np.uint32), np.uint32(1) << np.arange(32, dtype=np.uint32)])
    table = np.array(_TABLE, np.uint32)
    for step in steps:
        states = table[(states ^ step) & 0xFF] ^ (states >> 8)
    ends, shifted = states[:lanes].tolist(), states[lanes:].tolist()
    joined = 0
    for end in ends:
        moved = 0
        for bit, after in enumerate(shifted):
            if joined >> bit & 1:
                moved ^= after
        joined = moved ^ end
    return joined
