"""A fixed random order of very many things, without listing them."""

from hashlib import blake2b

ROUNDS = 4


def shuffled(i: int, n: int, key: int) -> int:
    """What comes at place ``i`` when 0 … n − 1 are shuffled; each key gives another order, the same on every machine.

    A Feistel network permutes the numbers below a power of four; from one that is not below n it goes on to the next (cycle
    walking; Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains).
    """
    assert 0 <= i < n, f"place {i} of {n}"
    bits = (n.bit_length() + 1) // 2
    mask = (1 << bits) - 1
    while True:
        left, right = i >> bits, i & mask
        for step in range(ROUNDS):
            digest = blake2b(f"{key} {step} {right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest) & mask)
        i = left << bits | right
        if i < n:
            return i
