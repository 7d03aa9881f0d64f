import numpy as np
import pytest

from qkd_core.kernels import cpu
from qkd_core.kernels.gf128_hash import family


@pytest.mark.parametrize("path", cpu.runnable(), ids=lambda path: path.name)
def test_frozen_arrays_are_accepted_and_other_types_are_refused(path):
    polynomial_hash = family(path)
    words = np.ones(2, np.uint64)
    words.flags.writeable = False
    message = words.view(np.uint8)
    assert polynomial_hash(words, message, 128).shape == (2,)

    with pytest.raises(TypeError):
        polynomial_hash(words.astype(np.int64), message, 128)
    with pytest.raises(TypeError):
        polynomial_hash(words, words, 128)
    with pytest.raises(TypeError):
        polynomial_hash(words, np.ones(8, np.uint8)[::2], 128)
