"""Random numbers for kernels: one small stream a game, so that no game depends on its neighbours.

xoshiro128++ (Blackman and Vigna 2019) on four 32-bit words held in int64, seeded by a 32-bit mixer. Every product stays
below 2^63, so plain Python (the suite without the compiler) computes the same numbers without a warning.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from az.engine.jit import helper, open_helper

WORD = 0xFFFFFFFF
BELOW_ONE = 1.0 - 2.0**-53  # what 2^53 - 1/2 over 2^53 would be, if it did not round to 1


def key_of(*parts: int | str) -> int:
    """A 63-bit key from any parts, for example (seed, "selfplay", k): equal parts give the equal stream."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(*parts: int | str) -> NDArray[np.int64]:
    """[4] the words of a fresh stream."""
    words = np.zeros(4, np.int64)
    seed_words(key_of(*parts), words)
    return words


@helper
def _mix(x):
    x = x & WORD
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & WORD
    x = ((x ^ (x >> 15)) * 0x735A2D97) & WORD
    return x ^ (x >> 15)


@open_helper
def next_u32(words):
    """The next 32 random bits, as a non-negative int64; advances the stream."""
    s0, s1, s2, s3 = words[0], words[1], words[2], words[3]
    total = (s0 + s3) & WORD
    result = ((((total << 7) & WORD) | (total >> 25)) + s0) & WORD
    shifted = (s1 << 9) & WORD
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = ((s3 << 11) & WORD) | (s3 >> 21)
    words[0], words[1], words[2], words[3] = s0, s1, s2, s3
    return result


@open_helper
def seed_words(key, words):
    """Fill [4] words from a non-negative 63-bit key."""
    low = np.int64(key) & WORD
    high = (np.int64(key) >> 32) & WORD
    words[0] = _mix(low + 0x9E3779B9)
    words[1] = _mix(high ^ words[0])
    words[2] = _mix(low ^ words[1])
    words[3] = _mix((words[0] + words[2]) ^ 0x5BD1E995) | 1
    for _ in range(8):
        next_u32(words)


@open_helper
def uniform(words):
    """In the open interval (0, 1), 53 bits."""
    high = next_u32(words) >> 5
    low = next_u32(words) >> 6
    return min((high * 67108864.0 + low + 0.5) / 9007199254740992.0, BELOW_ONE)


@open_helper
def below(words, n):
    """An integer in [0, n), n < 2^20; the bias is under n / 2^52."""
    return min(np.int64(uniform(words) * n), n - 1)


@open_helper
def normal(words):
    """Standard normal, Box and Muller 1958."""
    radius = math.sqrt(-2.0 * math.log(uniform(words)))
    return radius * math.cos(2.0 * math.pi * uniform(words))


@open_helper
def log_gamma_sample(words, shape):
    """log of a Gamma(shape, 1) sample, Marsaglia and Tsang 2000; in logs, so that a tiny shape cannot underflow."""
    boost = 0.0
    a = shape
    if a < 1.0:
        boost = math.log(uniform(words)) / a
        a += 1.0
    d = a - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(words)
        t = 1.0 + c * x
        if t <= 0.0:
            continue
        v = t * t * t
        if math.log(uniform(words)) < 0.5 * x * x + d - d * v + d * math.log(v):
            return math.log(d) + math.log(v) + boost


@open_helper
def gumbel(words):
    """Standard Gumbel."""
    return -math.log(-math.log(uniform(words)))
