"""Array steps of Cascade at the end whose bits are corrected: it asks for parities and flips bits.

All frames that are not finished take one step together, see `advance`. Of each pass of a frame it
keeps, packed, at each boundary (the place behind a bit, see `cascade_reference`):

known, theirs  whether the parity of the bits up to it was told, and which; the words of the two
               alternate in one array, since they are wanted together
ours           the parity of this end's bits up to it, as they were when the pass was opened, and
               with the flips since that lie before it in its own block

so that theirs and ours differ by a constant within a block, and a boundary that was told once
serves for ever. A block is *odd* while it holds an odd number of errors.
"""

import numpy as np
from numba import njit, types

from qkd_core.kernels.cascade_permutation import (
    OPTIONS,
    ROWS,
    SHORTS_IN,
    origin,
    permute,
    place,
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

U = np.uint64
INT32_OUT = types.int32[::1]
# what is kept of a frame, int64[8]: passes opened, the pass being swept, its intervals, errors
# found in this sweep, whether no bit was flipped since the last pass was opened, bits flipped,
# bits told in answers
OPENED, SWEPT, INTERVALS, ERRORS, FRESH, FLIPPED, TOLD = range(7)
STATE = 8
RECIPROCAL = 42  # block of a position z < 2^21: z * ceil(2^42 / block_bits) >> 42
IS_ODD, IS_LISTED = 1, 2
NOT_CONSISTENT = -1


@njit(
    NOTHING(INT, INT, INT, INT, INT, INTS_IN, INTS_IN, INTS_IN, WORDS_IN, WORDS_OUT, WORDS_OUT,
            WORDS_IN, BITS_OUT, INT32_OUT, INTS_OUT),
    **OPTIONS,
)  # fmt: skip
def _open_pass(  # noqa: PLR0913, PLR0917 (kernel)
    frame, t, words, n_passes, top_words, block_bits, n_blocks, block_at, permuted, ours, known,
    tops, odd, listed, n_listed,
):  # fmt: skip
    """Compare the parities of the blocks of a pass, and list the odd ones."""
    n_bits = 64 * words
    base = (frame * n_passes + t) * words
    blocks = frame * block_at[n_passes] + block_at[t]
    for w in range(2 * base, 2 * (base + words)):
        known[w] = U(0)
    prefix_parities(permuted, 0, words, ours, base)
    first = block_at[t] - t  # of the parities of this pass among those of the frame
    before = U(0)
    count = np.int64(0)
    for j in range(n_blocks[t]):
        u = min(n_bits, (j + 1) * block_bits[t]) - 1
        w = base + (u >> 6)
        shift = U(u & 63)
        bit = first + j
        theirs = (tops[frame * top_words + (bit >> 6)] >> U(bit & 63)) & U(1)
        known[2 * w + 1] |= theirs << shift
        differs = theirs ^ ((ours[w] >> shift) & U(1))
        is_odd = differs ^ before
        before = differs
        odd[blocks + j] = U(IS_ODD | IS_LISTED) * is_odd
        listed[blocks + count] = j
        count += np.int64(is_odd)
    n_listed[frame * n_passes + t] = count


@njit(
    INT(INT, INT, INT, INT, INTS_IN, INTS_IN, INT, WORDS_IN, WORDS_IN, BITS_OUT, INT32_OUT,
        INTS_OUT, WORDS_OUT),
    **OPTIONS,
)  # fmt: skip
def _start_sweep(  # noqa: PLR0913, PLR0917 (kernel)
    frame, t, words, n_passes, block_bits, block_at, most, ours, known, odd, listed, n_listed,
    intervals,
):  # fmt: skip
    """Make an interval of each odd block of the pass: stop << 32 | start << 1 | what differs there.

    Returns how many.
    """
    base = U((frame * n_passes + t) * words)
    blocks = U(frame * block_at[n_passes] + block_at[t])
    to = U(frame * most)
    size = U(block_bits[t])
    for i in range(n_listed[frame * n_passes + t]):
        j = U(listed[blocks + U(i)])
        is_odd = U(odd[blocks + j]) & U(IS_ODD)
        odd[blocks + j] = is_odd
        start = j * size
        stop = min(U(64 * words), start + size)
        before = max(start, U(1)) - U(1)
        w = base + (before >> U(6))
        differs = ((known[U(2) * w + U(1)] ^ ours[w]) >> (before & U(63))) & U(start > U(0))
        intervals[to] = (stop << U(32)) | (start << U(1)) | differs
        to += is_odd
    n_listed[frame * n_passes + t] = 0
    return np.int64(to - U(frame * most))


@njit(
    INT(INT, INT, INT, INTS_OUT, INT, WORDS_IN, INT, WORDS_IN, WORDS_OUT, WORDS_OUT, INDICES_OUT,
        INDICES_OUT, INT),
    **OPTIONS,
)  # fmt: skip
def _halve(  # noqa: PLR0913, PLR0917 (kernel)
    base, at, count, state, s, answers, answer_at, ours, known, intervals, errors, asked, asked_at
):
    """Halve all intervals: by the answers, if ``answer_at`` >= 0, then by what is known already.

    An interval ends as a boundary to ask for, in ``asked``, or as the place of an error.

    Returns the number of intervals left.
    """
    one = U(1)
    first = U(base)
    fresh = state[s + FRESH] != 0
    here = U(at)
    to = here
    error_to = here + U(state[s + ERRORS])
    asked_to = U(asked_at)
    for i in range(count):
        interval = intervals[here]
        here += one
        stop = interval >> U(32)
        start = (interval & U(0xFFFFFFFF)) >> one
        differs = interval & one
        if answer_at >= 0:
            middle = (start + stop) >> one
            w = first + ((middle - one) >> U(6))
            shift = (middle - one) & U(63)
            theirs = (answers[U(answer_at) + (U(i) >> U(6))] >> (U(i) & U(63))) & one
            known[w + w] |= one << shift
            known[w + w + one] |= theirs << shift
            is_odd = theirs ^ ((ours[w] >> shift) & one) ^ differs
            stop = middle if is_odd else stop
            start = start if is_odd else middle
        while not fresh and stop - start > one:
            middle = (start + stop) >> one
            w = first + ((middle - one) >> U(6))
            shift = (middle - one) & U(63)
            if (known[w + w] >> shift) & one == U(0):
                break
            is_odd = (((known[w + w + one] ^ ours[w]) >> shift) & one) ^ differs
            stop = middle if is_odd else stop
            start = start if is_odd else middle
        wide = U(stop - start > one)
        intervals[to] = (stop << U(32)) | (start << one) | differs
        asked[asked_to] = ((start + stop) >> one) - one
        errors[error_to] = start
        to += wide
        asked_to += wide
        error_to += one - wide
    state[s + ERRORS] = np.int64(error_to - U(at))
    return np.int64(to - U(at))


@njit(
    INT(INT, INT, INTS_OUT, INT, INT, INTS_IN, INTS_IN, INTS_IN, SHORTS_IN, INDICES_OUT, INT,
        WORDS_IN, WORDS_OUT, WORDS_OUT, BITS_OUT, INT32_OUT, INTS_OUT),
    **OPTIONS,
)  # fmt: skip
def _flip(  # noqa: PLR0913, PLR0917 (kernel)
    frame, t, states, words, n_passes, block_bits, reciprocals, block_at, tables, errors, at,
    original, current, ours, odd, listed, n_listed,
):  # fmt: skip
    """Flip the bits at the errors found in pass ``t``, and note it in every opened pass.

    Returns NOT_CONSISTENT if a bit was flipped before: true parities never ask for that.
    """
    one = U(1)
    s = frame * STATE
    n_errors = states[s + ERRORS]
    opened = states[s + OPENED]
    first = U(frame * words)
    to = U(at)
    for i in range(n_errors):  # the bits, and from here on their places in the key
        bit = U(errors[to + U(i)])
        if t:
            bit = origin(tables, U((t - 1) * ROWS * words), U(words), bit)
        w = first + (bit >> U(6))
        flip = one << (bit & U(63))
        if (original[w] ^ current[w]) & flip:
            return NOT_CONSISTENT
        current[w] ^= flip
        errors[to + U(i)] = bit
    for p in range(opened):
        row = frame * n_passes + p
        base = U(row * words)
        blocks = U(frame * block_at[n_passes] + block_at[p])
        size = U(block_bits[p])
        reciprocal = U(reciprocals[p])
        end = U(64 * words)
        count = blocks + U(n_listed[row])
        for i in range(n_errors):
            z = U(errors[to + U(i)])
            if p:
                z = place(tables, U((p - 1) * ROWS * words), U(words), z)
            j = (z * reciprocal) >> U(RECIPROCAL)
            last = min(end, (j + one) * size) - one  # its boundary stays as it is
            head = base + (z >> U(6))
            tail = base + (last >> U(6))
            # a word is flipped twice where head and tail are one: what is left is from z to last
            ours[head] ^= ~U(0) << (z & U(63))
            while head < tail:
                head += one
                ours[head] = ~ours[head]
            ours[tail] ^= ~U(0) << (last & U(63))
            status = U(odd[blocks + j]) ^ U(IS_ODD)
            listed[count] = j
            new = U(status == U(IS_ODD))
            count += new
            odd[blocks + j] = status | (new << one)
        n_listed[row] = np.int64(count - blocks)
    states[s + ERRORS] = 0
    states[s + FLIPPED] += n_errors
    states[s + FRESH] = 0
    return 0


@njit(INT(INT, INT, INT, INTS_IN), **OPTIONS)
def _next_pass(frame, n_passes, opened, n_listed):
    """The first pass with odd blocks, else the next one to be opened."""
    t = 0
    while t < opened and n_listed[frame * n_passes + t] == 0:
        t += 1
    return t


@njit(NOTHING(INDICES_OUT, INT, INT, WORDS_OUT, INT), **OPTIONS)
def _write(numbers, count, per_word, out, at):
    """Pack numbers, uint32, into words, ``per_word`` to one; zeros fill the last."""
    width = 64 // per_word
    for first in range(0, count, per_word):
        word = U(0)
        for k in range(min(per_word, count - first)):
            word |= U(numbers[first + k]) << U(width * k)
        out[at + first // per_word] = word


@njit(
    INT(INT, INT, INT, INTS_IN, INTS_IN, INTS_IN, INTS_IN, SHORTS_IN, WORDS_IN, INTS_IN, WORDS_IN,
        INT, INT, WORDS_IN, WORDS_OUT, WORDS_OUT, WORDS_OUT, BITS_OUT, INT32_OUT, INTS_OUT,
        WORDS_OUT, INDICES_OUT, INTS_OUT, WORDS_OUT, INDICES_OUT, INDICES_OUT, INTS_OUT, WORDS_OUT,
        INT),
    **OPTIONS,
)  # fmt: skip
def advance(  # noqa: PLR0913, PLR0917 (kernel)
    words, top_words, per_word, block_bits, reciprocals, n_blocks, block_at, tables, tops, frames,
    answers, answer_at, most, original, current, ours, known, odd, listed, n_listed, intervals,
    errors, states, scratch, headers, asked, totals, out, at_out,
):  # fmt: skip
    """Take every frame of ``frames`` as far as it gets with the answers to its last questions.

    block_bits, reciprocals, n_blocks  int64[passes]
    block_at    int64[passes + 1], where the blocks of a pass begin, each with one entry to spare
    tables      of all permutations but the first pass's, which has none
    tops        uint64[all * top_words]: the parities that `open_reference` told
    frames      int64[m]: those that are not finished
    answers     uint64[n]: from ``answer_at`` on those to the last questions, as `answer` writes
    original, current    uint64[all * words]
    ours, known          uint64[all * passes * words], and twice as many
    odd, listed          uint8, int32[all * block_at[-1]]
    n_listed             int64[all * passes]
    intervals, errors    uint64, uint32[all * most]: one more than the blocks of any pass
    states      int64[all * STATE], zeros at first
    scratch     uint64[2 * words + 64]
    headers, asked  uint32[m or more], uint32[all * most]: scratch
    totals      int64[3]: boundaries asked for, words of their answers, frames that finish
    out         uint64[enough]: the questions, from ``at_out`` on, as `answer` reads them

    Returns where the questions end in ``out``, or NOT_CONSISTENT.
    """
    n_passes = block_bits.size
    n_asked = 0
    totals[:] = 0
    for i in range(frames.size):
        frame = frames[i]
        s = frame * STATE
        at = frame * most
        t = states[s + SWEPT]
        count = states[s + INTERVALS]
        left = 0
        from_answers = answer_at  # only the intervals that were asked about
        answer_at += (count + 63) >> 6
        while t < n_passes:
            if count:
                base = (frame * n_passes + t) * words
                left = _halve(base, at, count, states, s, answers, from_answers, ours, known,
                              intervals, errors, asked, n_asked)  # fmt: skip
                if left:
                    break
                if _flip(
                    frame, t, states, words, n_passes, block_bits, reciprocals, block_at, tables,
                    errors, at, original, current, ours, odd, listed, n_listed,
                ):  # fmt: skip
                    return NOT_CONSISTENT
            from_answers = -1
            t = _next_pass(frame, n_passes, states[s + OPENED], n_listed)
            if t == n_passes:
                break
            if t == states[s + OPENED]:
                if t == 0:
                    for w in range(words):
                        scratch[w] = current[frame * words + w]
                else:
                    permute(current, frame * words, words, tables, (t - 1) * ROWS * words, scratch,
                            scratch[words:])  # fmt: skip
                _open_pass(frame, t, words, n_passes, top_words, block_bits, n_blocks, block_at,
                           scratch, ours, known, tops, odd, listed, n_listed)  # fmt: skip
                states[s + OPENED] = t + 1
                states[s + FRESH] = 1
            count = _start_sweep(frame, t, words, n_passes, block_bits, block_at, most, ours, known,
                                 odd, listed, n_listed, intervals)  # fmt: skip
        states[s + SWEPT] = t
        states[s + INTERVALS] = left
        states[s + TOLD] += left
        headers[i] = (t << PASS_SHIFT) | left if left else FINISHED
        totals[1] += (left + 63) >> 6
        totals[2] += np.int64(left == 0)
        n_asked += left
    totals[0] = n_asked
    _write(headers, frames.size, 2, out, at_out)
    at_out += (frames.size + 1) >> 1
    _write(asked, n_asked, per_word, out, at_out)
    return at_out + (n_asked + per_word - 1) // per_word
