"""Counter-based noise: equal (seed, stream, repeat, step) give equal numbers in any batch or process."""

import numpy as np

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
_MASK = np.uint64(0xFFFFFFFF)
_ROUNDS = 10


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: [..., 4] 32-bit words in any integer type.
        key: [..., 2] 32-bit words.

    Returns:
        [..., 4] uint64, each below 2**32.
    """
    counter = np.asarray(counter).astype(np.uint64) & _MASK
    key = np.asarray(key).astype(np.uint64) & _MASK
    c0, c1, c2, c3 = np.moveaxis(counter, -1, 0)
    k0, k1 = np.moveaxis(key, -1, 0)
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ k0,
            product1 & _MASK,
            (product0 >> np.uint64(32)) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1)


def uniform_noise(seed: int, stream, repeat, step, width: int) -> np.ndarray:
    """Uniform numbers in the open interval (0, 1). Every key is taken modulo 2**32.

    Args:
        seed: the run's seed.
        stream: integer or [N] array, usually a level seed.
        repeat: integer or [N] array, the repetition of that level.
        step: integer or [N] array, the step within the episode.
        width: numbers per key.

    Returns:
        float64 [N, width].
    """
    stream, repeat, step = (
        np.asarray(x, dtype=np.int64).astype(np.uint64) & _MASK for x in (stream, repeat, step)
    )
    stream, repeat, step = np.broadcast_arrays(np.atleast_1d(stream), repeat, step)
    blocks = -(-width // 4)
    block = np.arange(blocks, dtype=np.uint64)
    shape = (stream.shape[0], blocks)
    counter = np.stack(
        [np.broadcast_to(x, shape) for x in (block[None], step[:, None], repeat[:, None], stream[:, None])],
        axis=-1,
    )
    key = np.array([seed & 0xFFFFFFFF, 0x574C454E], dtype=np.uint64)
    words = philox(counter, key).reshape(shape[0], 4 * blocks)[:, :width]
    return (words + 0.5) / 2.0**32


def gumbel_noise(seed: int, stream, repeat, step, num_actions: int) -> np.ndarray:
    """Standard Gumbel noise, float32 [N, A]: argmax(logits + noise) samples softmax(logits)."""
    return -np.log(-np.log(uniform_noise(seed, stream, repeat, step, num_actions))).astype(np.float32)
