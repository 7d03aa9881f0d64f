"""The product of two densities at a check: what the check knows of one bit from two others."""

from numba import njit

NEGLIGIBLE = 1e-14


@njit(cache=True, nogil=True)
def check_product(first, second, level, above, sums, differences):  # noqa: PLR0913, PLR0917 (kernel)
    """Combine the magnitudes of two messages in all pairs, by their weights.

    first, second  (sums, differences): for each magnitude the probability of both signs, and that
                   of plus less that of minus; signs multiply, so each only meets its like
    level, above   int32, float64 [magnitudes, magnitudes]: the magnitude of the outcome lies
                   between two levels, so it is shared out between them and its mean is kept
    """
    sums[:] = 0
    differences[:] = 0
    first_sums, first_differences = first
    second_sums, second_differences = second
    for i in range(sums.size):
        a = first_sums[i]
        b = first_differences[i]
        if a < NEGLIGIBLE:
            continue
        for j in range(sums.size):
            x = a * second_sums[j]
            y = b * second_differences[j]
            k = level[i, j]
            w = above[i, j]
            sums[k] += x * (1 - w)
            sums[k + 1] += x * w
            differences[k] += y * (1 - w)
            differences[k + 1] += y * w
