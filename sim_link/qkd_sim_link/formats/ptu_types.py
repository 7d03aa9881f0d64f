"""The types of records that PicoQuant's devices write, by their code in the header.

Source: PicoQuant, "TTTR Record Format"; the code of MultiHarp is also that of PicoHarp 330.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordType:
    """One device in one mode.

    period        of the coarse counter: ticks in T2, sync events in T3
    counted_bits  of an overflow's record, which say how many there were; 0: always one
    pico          the layout of PicoHarp 300, with four bits of channel
    """

    code: int
    device: str
    mode: str
    period: int
    counted_bits: int
    pico: bool = False

    @property
    def name(self) -> str:
        return f"{self.device} {self.mode}"

    @property
    def most_told(self) -> int:
        """The overflows that one record can count; 0 where it counts none."""
        return (1 << self.counted_bits) - 1


def _pair(device: str, t2: int, t3: int) -> tuple[RecordType, RecordType]:
    """The two modes of a device whose overflows are counted."""
    return (
        RecordType(code=t2, device=device, mode="T2", period=1 << 25, counted_bits=25),
        RecordType(code=t3, device=device, mode="T3", period=1 << 10, counted_bits=10),
    )


RECORD_TYPES = {
    found.code: found
    for found in (
        RecordType(
            code=0x00010203,
            device="PicoHarp 300",
            mode="T2",
            period=210_698_240,
            counted_bits=0,
            pico=True,
        ),
        RecordType(
            code=0x00010303,
            device="PicoHarp 300",
            mode="T3",
            period=1 << 16,
            counted_bits=0,
            pico=True,
        ),
        RecordType(
            code=0x00010204, device="HydraHarp v1", mode="T2", period=33_552_000, counted_bits=0
        ),
        RecordType(
            code=0x00010304, device="HydraHarp v1", mode="T3", period=1 << 10, counted_bits=0
        ),
        *_pair("HydraHarp v2", 0x01010204, 0x01010304),
        *_pair("TimeHarp 260 N", 0x00010205, 0x00010305),
        *_pair("TimeHarp 260 P", 0x00010206, 0x00010306),
        *_pair("MultiHarp", 0x00010207, 0x00010307),
    )
}
BY_NAME = {found.name: found for found in RECORD_TYPES.values()}
