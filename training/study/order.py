"""The order in which one participant sees comparisons, and the films within each: a function of who looks at what.

The page computes the same in JavaScript (page.html, script "order"), so an answer file can be held against the order that its
participant must have seen. Each item is sorted by a 32-bit hash of its own: FNV-1a over the text, then MurmurHash3's finaliser,
without which texts that differ in the last letters only would stay neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable

_MASK = 0xFFFFFFFF


def shuffled(items: Iterable[str], *scope: str) -> list[str]:
    """The items in the order that belongs to this scope, e.g. ("study", "participant"); how they came does not matter."""
    return sorted(items, key=lambda item: (hash32("|".join([*scope, item])), item))


def hash32(text: str) -> int:
    """A number in [0, 2^32) that is spread evenly over texts."""
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & _MASK
    value = (value ^ value >> 16) * 0x85EBCA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & _MASK
    return value ^ value >> 16
