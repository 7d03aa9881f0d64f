"""STAGE=tags: coincidences, lags, decoding and the finding of a clock, beside what others offer.

A peer that is not installed leaves a row without one: `pip install keyferry[bench]` has them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rows import Compared, Goal, Row
from thread_time import interleaved

from qkd_core.photons.clock import coincidences
from qkd_sim_link.formats.ptu import PtuFile
from qkd_sim_link.formats.ptu_types import BY_NAME
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.recording import TagFile
from qkd_sim_link.formats.s15 import LAYOUTS, S15File, packed, write_s15
from qkd_sim_link.tags.acquire import acquire
from qkd_sim_link.tags.histogram import lags

SECONDS = 2.0
PAIRS, ONLY_A, ONLY_B, JITTER_PS = 98_000, 892_000, 401_000, 120.0
OFFSET_PS, DRIFT = 3_300_000_000, 5e-6
REACH_PS, BIN_PS, LAGS_PS = 500, 100, 20_000
RECORDS = 1 << 22
FPFIND_ORDER, FPFIND_RES_NS = 23, 16  # of its transform: its default of 26 needs more than 2 s
DRIFT_ERROR = 1e-10
EXPECTED = "100 Mtags/s"
NUMPY, PYTIMETAG, PTUFILE, FPFIND = "numpy", "pytimetag", "ptufile", "fpfind"

Times = np.ndarray


@dataclass(frozen=True, slots=True)
class Task:
    """A work on ``n`` tags, and that of each peer, None where it is missing; goals by the peer."""

    name: str
    n: int
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object] | None]
    goals: dict[str, Goal]


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    a, b = two_records()
    for task in (merging(a, b), correlating(a, b), decoding_ptu(folder), decoding_a1(folder)):
        say(f"{task.name}, {task.n:,}")
        rows += beside_peers(task)
    say("the clock of two records")
    found, remarks = finding_the_clock()
    absent = [name for name in (PYTIMETAG, PTUFILE, FPFIND) if find_spec(name) is None]
    missing = [f"tags: {', '.join(absent)} not installed, no row beside"] if absent else []
    return rows + found, [
        "tags: Mtags/s of the time of one thread, the tags of both channels counted; files are"
        " in memory, and opened each time",
        *remarks,
        *missing,
    ]


def beside_peers(task: Task) -> list[Row]:
    """Rates in millions a second, one row for each peer."""
    present = {name: work for name, work in task.peers.items() if work}
    seconds = interleaved({"ours": task.ours} | present)
    rate = {name: task.n / 1e6 / taken for name, taken in seconds.items()}
    rate[EXPECTED] = 100.0
    return [
        Compared(
            stage=f"tags {task.name}",
            n=task.n,
            ours=rate["ours"],
            peer=rate.get(peer),
            peer_name=peer if peer in rate else "",
            unit="Mtags/s",
            goal=goal,
        ).row(quiet=True)
        for peer, goal in task.goals.items()
    ]


def two_records() -> tuple[Times, Times]:
    """Alice's and Bob's tags in ps by one clock, as a bright link of pairs gives them."""
    rng = np.random.default_rng(1)

    def times(n: float) -> Times:
        return rng.uniform(0, SECONDS * 1e12, rng.poisson(n * SECONDS))

    common = times(PAIRS)
    ends = [
        np.concatenate((common + rng.normal(0, JITTER_PS, common.size), times(only)))
        for only in (ONLY_A, ONLY_B)
    ]
    a, b = (np.sort(np.rint(end).astype(np.int64)) for end in ends)
    return a, b


def merging(a: Times, b: Times) -> Task:
    """Coincidences, each event in one at most."""

    def with_numpy() -> tuple[Times, Times]:
        first = np.searchsorted(b, a - REACH_PS)
        near = np.minimum(first, b.size - 1)
        in_a = np.flatnonzero((first < b.size) & (b[near] <= a + REACH_PS))
        in_b, once = np.unique(first[in_a], return_index=True)
        return in_a[once], in_b

    ours, theirs = coincidences(a, b, REACH_PS)[0], with_numpy()[0]
    assert abs(ours.size - theirs.size) <= 1e-3 * ours.size, "not the same coincidences"
    return Task(
        "coincidences",
        a.size + b.size,
        lambda: coincidences(a, b, REACH_PS),
        {NUMPY: with_numpy},
        {NUMPY: Goal(">= 5"), EXPECTED: Goal(">= 1", ">= 3")},
    )


def correlating(a: Times, b: Times) -> Task:
    """The histogram of all lags."""
    bins = 2 * LAGS_PS // BIN_PS

    def with_numpy() -> Times:
        low, high = np.searchsorted(b, a - LAGS_PS), np.searchsorted(b, a + LAGS_PS)
        n = high - low
        within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        lag = b[np.repeat(low, n) + within] - np.repeat(a, n)
        return np.bincount((lag + LAGS_PS) // BIN_PS, minlength=bins)

    peers: dict[str, Callable[[], object] | None] = {NUMPY: with_numpy, PYTIMETAG: None}
    counts = lags(a, b, BIN_PS, LAGS_PS).counts
    np.testing.assert_array_equal(counts, with_numpy())
    if find_spec(PYTIMETAG):
        from pytimetag.analysers.HistogramAnalyser import HistogramAnalyser
        from pytimetag.datablock import DataBlock

        block = DataBlock.create([a, b], 0, 0, int(SECONDS * 1e12))
        theirs = HistogramAnalyser(2)
        for key, value in (
            *(("Sync", 0), ("Signals", [1]), ("BinCount", bins)),
            *(("ViewStart", -float(LAGS_PS)), ("ViewStop", float(LAGS_PS))),
        ):
            theirs.configure({key: value})
        # it puts a lag of exactly +20 ns into its last bin
        np.testing.assert_array_equal(theirs.analysis(block)["Histograms"][0][:-1], counts[:-1])
        peers[PYTIMETAG] = lambda: theirs.analysis(block)
    return Task(
        "lags of +-20 ns",
        a.size + b.size,
        lambda: lags(a, b, BIN_PS, LAGS_PS),
        peers,
        {NUMPY: Goal(None), PYTIMETAG: Goal(None, ">= 1.3")},
    )


def decoding_ptu(folder: Path) -> Task:
    """HydraHarp T2, two channels at a million tags a second in all."""
    rng = np.random.default_rng(2)
    time = np.cumsum(rng.integers(1, 2_000_000, RECORDS))
    channel = rng.integers(1, 3, RECORDS).astype(np.uint8)
    none = np.zeros(RECORDS, np.uint8)
    events = PtuEvents(coarse=time, channel=channel, flags=none, fine=none.astype(np.uint16))
    path = folder / "bench.ptu"
    n = write_ptu(path, BY_NAME["HydraHarp v2 T2"], [events], PtuSettings())
    np.testing.assert_array_equal(_times(PtuFile(path)), time)
    peers: dict[str, Callable[[], object] | None] = {PTUFILE: None}
    if find_spec(PTUFILE):
        import ptufile

        def theirs() -> np.ndarray:
            with ptufile.PtuFile(path) as file:
                return file.decode_records()

        records = theirs()
        np.testing.assert_array_equal(records["time"][records["channel"] >= 0], time)
        peers[PTUFILE] = theirs
    return Task(
        "PTU, HydraHarp T2",
        n,
        lambda: _drained(PtuFile(path)),
        peers,
        {PTUFILE: Goal(">= 1", ">= 2")},
    )


def decoding_a1(folder: Path) -> Task:
    """S-Fifteen a1, one detector a record."""
    rng = np.random.default_rng(3)
    time = np.cumsum(rng.integers(1, 1000, RECORDS))  # of 1/256 ns
    pattern = np.uint8(1) << rng.integers(0, 4, RECORDS).astype(np.uint8)
    path = folder / "bench.a1"
    layout = LAYOUTS["s15-a1"]
    write_s15(path, layout, packed(time, pattern))
    np.testing.assert_array_equal(_times(S15File(path, layout)), time)

    def with_numpy() -> tuple[np.ndarray, np.ndarray]:
        words = np.fromfile(path, "<u8")
        return (words >> np.uint64(10)).astype(np.int64), (words & np.uint64(15)).astype(np.uint8)

    peers: dict[str, Callable[[], object] | None] = {NUMPY: with_numpy, FPFIND: None}
    if find_spec(FPFIND):
        from fpfind.lib.parse_timestamps import read_a1

        np.testing.assert_array_equal(read_a1(path)[0] * 256, time)  # in ns
        peers[FPFIND] = lambda: read_a1(path)
    return Task(
        "S-Fifteen a1",
        RECORDS,
        lambda: _drained(S15File(path, layout)),
        peers,
        {NUMPY: Goal(None), FPFIND: Goal(None, ">= 6")},
    )


def finding_the_clock() -> tuple[list[Row], list[str]]:
    """Bob's clock is 3.3 ms ahead and 5 ppm fast; nothing is known of that."""
    a, b = two_records()
    b = b + OFFSET_PS + np.rint(b * DRIFT).astype(np.int64)
    found = acquire(a, b)
    off_ps = found.to_bob(0) - OFFSET_PS
    works: dict[str, Callable[[], object]] = {"ours": lambda: acquire(a, b)}
    told = [f"tags clock: ours is {off_ps} ps off, in frequency {found.drift - DRIFT:.1e}"]
    if find_spec(FPFIND):
        works[FPFIND] = lambda: _with_fpfind(a, b)
        dt, df = _with_fpfind(a, b)
        told.append(
            f"tags clock: fpfind, 2^{FPFIND_ORDER} bins of {FPFIND_RES_NS} ns, is"
            f" {1e3 * dt - OFFSET_PS:.0f} ps off, in frequency {df - DRIFT:.1e}; it searches"
            " 134 ms and one frequency at the begin, ours 8.6 ms and 20 ppm"
        )
    seconds = interleaved(works, rounds=3)
    theirs = seconds.get(FPFIND)
    return [
        Compared(
            stage="tags clock",
            n=a.size + b.size,
            ours=1 / seconds["ours"],
            peer=1 / theirs if theirs else None,
            peer_name=FPFIND if theirs else "",
            unit="found/s",
            goal=Goal(">= 20", ">= 60"),
        ).row(quiet=True),
        Compared(
            stage="tags clock, frequency",
            n=a.size + b.size,
            ours=abs(found.drift - DRIFT),
            peer=DRIFT_ERROR,
            peer_name="1e-10",
            unit="error",
            goal=Goal("<= 1"),
        ).row(quiet=True),
    ], told


def _with_fpfind(a: Times, b: Times) -> tuple[float, float]:
    """Its result in ns and absolute, with the settings of its command but for the transform."""
    from fpfind.fpfind import fpfind
    from fpfind.lib.constants import MAX_FCORR, NTP_MAXDELAY_NS

    n_bins = 1 << FPFIND_ORDER
    # as its reader gives times
    alice, bob = (np.asarray(time, np.longdouble) / 1000 for time in (a, b))
    return fpfind(
        alice,
        bob,
        num_wraps=1,
        num_bins=n_bins,
        resolution=FPFIND_RES_NS,
        target_resolution=1,
        threshold=6,
        max_dt=NTP_MAXDELAY_NS,
        max_df=MAX_FCORR,
        df_target=1e-10,
        separation_duration=6 * FPFIND_RES_NS * n_bins,
        convergence_rate=float(np.e),
        precompensations=[0.0],
    )


def _times(file: TagFile) -> Times:
    return np.concatenate([batch.time for batch in file.batches()])


def _drained(file: TagFile) -> int:
    return sum(batch.time.size for batch in file.batches())
