"""Array steps of Cascade at the end whose bits are corrected: it asks for parities and flips bits.

All frames in flight take one step together, see `advance`. A frame in flight is in a slot. Of each
pass of a slot's frame it keeps, packed, at each boundary (the place behind a bit, see
`cascade_reference`):

known    whether the other end has told its parity of the bits up to there
apart    this end's parity of them, as it was when the pass was opened, with the flips since that
         lie before it in its own block; where the other's was told, whether the two differ

so that, within a block, what differs before an interval stays the same, and a boundary that was
told once serves for ever. A block is *odd* while it holds an odd number of errors.
"""

import numpy as np
from numba import njit

from qkd_core.kernels.cascade_flips import (
    ERRORS,
    FRESH,
    HALF,
    INT32_OUT,
    INTERVALS,
    IS_LISTED,
    IS_ODD,
    OPENED,
    STATE,
    SWEPT,
    flip,
)
from qkd_core.kernels.cascade_permutation import (
    OPTIONS,
    ROWS,
    SHORTS_IN,
    SHORTS_OUT,
    permute,
    prefix_parities,
)
from qkd_core.kernels.cascade_reference import FINISHED, PASS_SHIFT
from qkd_core.kernels.signatures import (
    BITS_OUT,
    INDICES_OUT,
    INT,
    INTS_IN,
    INTS_OUT,
    NOTHING,
    WORDS_IN,
    WORDS_OUT,
)

NOT_CONSISTENT = -1
U = np.uint64


@njit(NOTHING(INT, INT, INT, WORDS_IN, SHORTS_IN, WORDS_OUT), **OPTIONS)
def _order(slot, t, words, current, tables, scratch):  # noqa: PLR0913, PLR0917 (kernel)
    """Put the bits in the order of pass ``t``, uint64[words] at the start of ``scratch``."""
    if t:
        permute(current, slot * words, words, tables, (t - 1) * ROWS * words, scratch,
                scratch[words:])  # fmt: skip
        return
    for w in range(words):
        scratch[w] = current[slot * words + w]


@njit(
    NOTHING(INT, INT, INT, INT, INT, INTS_IN, INTS_IN, INTS_IN, WORDS_IN, WORDS_OUT, WORDS_OUT,
            WORDS_IN, BITS_OUT, INT32_OUT, INTS_OUT),
    **OPTIONS,
)  # fmt: skip
def _open_pass(  # noqa: PLR0913, PLR0917 (kernel)
    slot, t, words, n_passes, top_words, block_bits, n_blocks, block_at, permuted, apart, known,
    tops, odd, listed, n_listed,
):  # fmt: skip
    """Compare the parities of the blocks of a pass, and list the odd ones."""
    n_bits = 64 * words
    base = (slot * n_passes + t) * words
    blocks = slot * block_at[n_passes] + block_at[t]
    for w in range(base, base + words):
        known[w] = U(0)
    prefix_parities(permuted, 0, words, apart, base)
    first = block_at[t] - t  # of the parities of this pass among those of the frame
    before = U(0)
    count = np.int64(0)
    for j in range(n_blocks[t]):
        u = min(n_bits, (j + 1) * block_bits[t]) - 1
        w = base + (u >> 6)
        shift = U(u & 63)
        bit = first + j
        theirs = (tops[slot * top_words + (bit >> 6)] >> U(bit & 63)) & U(1)
        apart[w] ^= theirs << shift
        differs = (apart[w] >> shift) & U(1)
        is_odd = differs ^ before
        before = differs
        odd[blocks + j] = U(IS_ODD | IS_LISTED) * is_odd
        listed[blocks + count] = j
        count += np.int64(is_odd)
    n_listed[slot * n_passes + t] = count


@njit(
    INT(INT, INT, INT, INT, INTS_IN, INTS_IN, INT, WORDS_IN, BITS_OUT, INT32_OUT, INTS_OUT,
        WORDS_OUT),
    **OPTIONS,
)  # fmt: skip
def _start_sweep(  # noqa: PLR0913, PLR0917 (kernel)
    slot, t, words, n_passes, block_bits, block_at, most, apart, odd, listed, n_listed, intervals
):
    """Make an interval of each odd block of the pass: stop << 32 | start << 1 | what differs there.

    Returns how many.
    """
    base = U((slot * n_passes + t) * words)
    blocks = U(slot * block_at[n_passes] + block_at[t])
    to = U(slot * most)
    size = U(block_bits[t])
    for i in range(n_listed[slot * n_passes + t]):
        j = U(listed[blocks + U(i)])
        is_odd = U(odd[blocks + j]) & U(IS_ODD)
        odd[blocks + j] = is_odd
        start = j * size
        stop = min(U(64 * words), start + size)
        before = max(start, U(1)) - U(1)
        differs = (apart[base + (before >> U(6))] >> (before & U(63))) & U(start > U(0))
        intervals[to] = (stop << U(32)) | (start << U(1)) | differs
        to += is_odd
    n_listed[slot * n_passes + t] = 0
    return np.int64(to - U(slot * most))


@njit(NOTHING(INT, INT, INT, WORDS_IN, INT, WORDS_OUT, WORDS_OUT, WORDS_OUT), **OPTIONS)
def _hear(base, at, count, answers, answer_at, apart, known, intervals):  # noqa: PLR0913, PLR0917 (kernel)
    """Halve all intervals by the answers."""
    one = U(1)
    first = U(base)
    for i in range(U(count)):
        here = U(at) + i
        interval = intervals[here]
        stop = interval >> U(32)
        start = (interval & U(HALF)) >> one
        differs = interval & one
        middle = (start + stop) >> one
        w = first + ((middle - one) >> U(6))
        shift = (middle - one) & U(63)
        theirs = ((answers[U(answer_at) + (i >> U(6))] >> (i & U(63))) & one) << shift
        known[w] |= one << shift
        here_apart = apart[w] ^ theirs
        apart[w] = here_apart
        is_odd = ((here_apart >> shift) & one) ^ differs
        stop = middle if is_odd else stop
        start = start if is_odd else middle
        intervals[here] = (stop << U(32)) | (start << one) | differs


@njit(NOTHING(INT, INT, INT, WORDS_IN, WORDS_IN, WORDS_OUT), **OPTIONS)
def _look_up(base, at, count, apart, known, intervals):  # noqa: PLR0913, PLR0917 (kernel)
    """Halve all intervals as far as what is known leads."""
    one = U(1)
    first = U(base)
    for i in range(U(at), U(at + count)):
        interval = intervals[i]
        stop = interval >> U(32)
        start = (interval & U(HALF)) >> one
        differs = interval & one
        while stop - start > one:
            middle = (start + stop) >> one
            w = first + ((middle - one) >> U(6))
            shift = (middle - one) & U(63)
            if (known[w] >> shift) & one == U(0):
                break
            is_odd = ((apart[w] >> shift) & one) ^ differs
            stop = middle if is_odd else stop
            start = start if is_odd else middle
        intervals[i] = (stop << U(32)) | (start << one) | differs


@njit(
    [
        INT(INT, INT, INTS_OUT, INT, WORDS_OUT, INDICES_OUT, asked, INT)
        for asked in (SHORTS_OUT, INDICES_OUT)
    ],
    **OPTIONS,
)
def _ask(at, count, states, s, intervals, errors, asked, asked_at):  # noqa: PLR0913, PLR0917 (kernel)
    """Make of each interval a boundary to ask for, in ``asked``, or the place of an error.

    Returns the number of intervals left.
    """
    one = U(1)
    to = U(at)
    error_to = to + U(states[s + ERRORS])
    asked_to = U(asked_at)
    for i in range(U(at), U(at + count)):
        interval = intervals[i]
        stop = interval >> U(32)
        start = (interval & U(HALF)) >> one
        wide = U(stop - start > one)
        intervals[to] = interval
        asked[asked_to] = ((start + stop) >> one) - one
        errors[error_to] = start
        to += wide
        asked_to += wide
        error_to += one - wide
    states[s + ERRORS] = np.int64(error_to - U(at))
    return np.int64(to - U(at))


@njit(INT(INT, INT, INT, INTS_IN), **OPTIONS)
def _next_pass(slot, n_passes, opened, n_listed):
    """The first pass with odd blocks, else the next one to be opened."""
    t = 0
    while t < opened and n_listed[slot * n_passes + t] == 0:
        t += 1
    return t


@njit(
    [
        INT(INT, INT, INTS_IN, INTS_IN, INTS_IN, INTS_IN, SHORTS_IN, WORDS_IN, INTS_IN, WORDS_IN,
            INT, INT, WORDS_IN, WORDS_OUT, WORDS_OUT, WORDS_OUT, BITS_OUT, INT32_OUT, INTS_OUT,
            WORDS_OUT, INDICES_OUT, INTS_OUT, INTS_OUT, WORDS_OUT, INTS_OUT, INDICES_OUT, asked,
            INT)
        for asked in (SHORTS_OUT, INDICES_OUT)
    ],
    **OPTIONS,
)  # fmt: skip
def advance(  # noqa: PLR0913, PLR0917 (kernel)
    words, top_words, block_bits, reciprocals, n_blocks, block_at, tables, tops, slots,
    answers, answer_at, most, original, current, apart, known, odd, listed, n_listed, intervals,
    errors, states, told, scratch, totals, headers, asked, at_out,
):  # fmt: skip
    """Take the frame in every slot of ``slots`` as far as it gets with the answers it has.

    block_bits, reciprocals, n_blocks  int64[passes]
    block_at    int64[passes + 1], where the blocks of a pass begin, each with one entry to spare
    tables      of all permutations but the first pass's, which has none
    tops        uint64[all * top_words]: the parities that `open_reference` told
    slots       int64[m]: those whose frames are not finished, of all
    answers     uint64[n]: from ``answer_at`` on those to the last questions, as `answer` writes
    original, current    uint64[all * words]
    apart, known         uint64[all * passes * words]
    odd, listed          uint8, int32[all * block_at[-1]]
    n_listed             int64[all * passes]
    intervals, errors    uint64, uint32[all * most]: one more than the blocks of any pass
    states      int64[all * STATE], zeros for a new frame
    told        int64[all]: bits told of the frame in each slot; added to
    scratch     uint64[2 * words + 64]
    totals      int64[3]: boundaries asked for, words of their answers, frames that finish
    headers, asked  one array of words, seen as uint32 and as uint16 or uint32: the questions, from
                word ``at_out`` on, as `answer` reads them, and one entry beyond them

    Returns where the questions end, in words, or NOT_CONSISTENT.
    """
    n_passes = block_bits.size
    per_word = 8 // asked.itemsize
    first_asked = (at_out + ((slots.size + 1) >> 1)) * per_word
    to_asked = first_asked
    totals[:] = 0
    for i in range(slots.size):
        slot = slots[i]
        s = slot * STATE
        at = slot * most
        t = states[s + SWEPT]
        count = states[s + INTERVALS]
        left = 0
        has_answers = count > 0
        while t < n_passes:
            if count:
                base = (slot * n_passes + t) * words
                if has_answers:
                    _hear(base, at, count, answers, answer_at, apart, known, intervals)
                    answer_at += (count + 63) >> 6
                if not states[s + FRESH]:
                    _look_up(base, at, count, apart, known, intervals)
                left = _ask(at, count, states, s, intervals, errors, asked, to_asked)
                if left:
                    break
                if not flip(
                    slot, t, states, words, n_passes, block_bits, reciprocals, block_at, tables,
                    errors, intervals, at, original, current, apart, odd, listed, n_listed,
                ):  # fmt: skip
                    return NOT_CONSISTENT
            has_answers = False
            t = _next_pass(slot, n_passes, states[s + OPENED], n_listed)
            if t == n_passes:
                break
            if t == states[s + OPENED]:
                _order(slot, t, words, current, tables, scratch)
                _open_pass(slot, t, words, n_passes, top_words, block_bits, n_blocks, block_at,
                           scratch, apart, known, tops, odd, listed, n_listed)  # fmt: skip
                states[s + OPENED] = t + 1
                states[s + FRESH] = 1
            count = _start_sweep(slot, t, words, n_passes, block_bits, block_at, most, apart, odd,
                                 listed, n_listed, intervals)  # fmt: skip
        states[s + SWEPT] = t
        states[s + INTERVALS] = left
        told[slot] += left
        headers[2 * at_out + i] = (t << PASS_SHIFT) | left if left else FINISHED
        totals[1] += (left + 63) >> 6
        totals[2] += np.int64(left == 0)
        to_asked += left
    totals[0] = to_asked - first_asked
    headers[2 * at_out + slots.size : first_asked * 2 // per_word] = 0
    end = (to_asked + per_word - 1) // per_word
    asked[to_asked : end * per_word] = 0
    return end
