"""Answers of the network that a search has seen before, found by all that the network sees.

Exact: an entry is taken only where 124 bits over planes and mask agree, and the network's answer for a row depends on
that row alone; so with the cache and without it the same games come out. One table a thread and network, direct-mapped:
a new position simply takes the place of the old one, and the memory is bounded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.game import Game
from az.engine.jit import copy_into, helper

WORD = 0xFFFFFFFF
BYTES = 64 << 20  # of one table, at most
MOST_ENTRIES = 1 << 18


class Cache(NamedTuple):
    """A table of T entries; T is a power of two, or 1 for no cache."""

    keys: NDArray[np.int64]  # [T, 2]
    logits: NDArray[np.float32]  # [T, A]
    values: NDArray[np.float32]  # [T]
    asked: NDArray[np.int64]  # [2] look-ups, hits


CACHE = types.NamedTuple([types.int64[:, ::1], types.float32[:, ::1], types.float32[::1], types.int64[::1]], Cache)


def make_cache(game: Game, enabled: bool = True) -> Cache:
    """An empty table within BYTES."""
    entry = 4 * game.num_actions + 4 + 16
    entries = min(MOST_ENTRIES, 1 << (BYTES // entry).bit_length() - 1) if enabled else 1
    return Cache(
        keys=np.zeros((entries, 2), np.int64),
        logits=np.zeros((entries, game.num_actions), np.float32),
        values=np.zeros(entries, np.float32),
        asked=np.zeros(2, np.int64),
    )


@helper
def stir(lane, word):
    """One step of a 32-bit lane; no product leaves int64, so plain Python computes the same without a warning."""
    lane = ((lane ^ word) * 0x21F0AAAD) & WORD
    return lane ^ (lane >> 15)


@helper
def row_key(words, mask, key):
    """Write the two 62-bit halves of a row's key. words: the planes' bits [n] as uint32."""
    a, b = np.int64(0x243F6A88), np.int64(0x85A308D3)  # not plain numbers: numba would compile stir for each
    c, d = np.int64(0x13198A2E), np.int64(0x03707344)
    for i in range(words.shape[0]):
        word = np.int64(words[i])
        a = stir(a, word)
        b = stir(b, word ^ a)
        if i & 1:
            c = stir(c, a ^ (b >> 7))
        else:
            d = stir(d, b ^ (a >> 7))
    bits = 1
    for i in range(mask.shape[0]):
        bits = bits << 1 | (1 if mask[i] else 0)
        if i & 15 == 15 or i == mask.shape[0] - 1:
            c = stir(c, bits ^ d)
            d = stir(d, bits ^ (c >> 3))
            bits = 1
    a = stir(a, c)
    b = stir(b, d ^ a)
    key[0] = ((a << 30) ^ b ^ (d << 11)) & 0x3FFFFFFFFFFFFFFF
    key[1] = ((c << 30) ^ d ^ (b << 9)) & 0x3FFFFFFFFFFFFFFF | (1 << 62)  # never 0: an empty entry matches nothing


@helper
def find(cache, words, mask, key):
    """The entry that holds this position's answer, or -1; its key is written into `key` [2] either way."""
    row_key(words, mask, key)
    entry = key[0] & (cache.values.shape[0] - 1)
    cache.asked[0] += 1
    if cache.keys[entry, 0] == key[0] and cache.keys[entry, 1] == key[1]:
        cache.asked[1] += 1
        return entry
    return -1


@helper
def remember(cache, key, logits, value):
    """Keep an answer under the key that `find` wrote."""
    entry = key[0] & (cache.values.shape[0] - 1)
    cache.keys[entry, 0], cache.keys[entry, 1] = key[0], key[1]
    copy_into(cache.logits[entry], logits)
    cache.values[entry] = value
