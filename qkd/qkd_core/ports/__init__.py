"""What the core asks of the outside. Each port states its promise and its errors.

Times are seconds since 1970, from the caller's clock. A store method is one transition in one
transaction with its audit record: if it raises, nothing happened; if it returns, it is durable.
"""

from qkd_core.ports.comparing import ComparisonPeer, ComparisonStore
from qkd_core.ports.link import (
    AliceDevice,
    BobDevice,
    ClassicalChannel,
    Clock,
    KeyDevice,
    PadStore,
    PairDevice,
    SelfTest,
    TagDevice,
)
from qkd_core.ports.refresh import KeySink, PolicyStore, ReadableSink, RefreshPeer, RefreshStore
from qkd_core.ports.store import (
    AgreementStore,
    AllocationStore,
    BlockStore,
    EpsilonLedger,
    PeerKme,
    PoolGauge,
    RecordStore,
)
from qkd_core.ports.witness import PeerWitness, SiteWitness, WitnessPeer, WitnessStore

__all__ = [
    "AgreementStore",
    "AliceDevice",
    "AllocationStore",
    "BlockStore",
    "BobDevice",
    "ClassicalChannel",
    "Clock",
    "ComparisonPeer",
    "ComparisonStore",
    "EpsilonLedger",
    "KeyDevice",
    "KeySink",
    "PadStore",
    "PairDevice",
    "PeerKme",
    "PeerWitness",
    "PolicyStore",
    "PoolGauge",
    "ReadableSink",
    "RecordStore",
    "RefreshPeer",
    "RefreshStore",
    "SelfTest",
    "SiteWitness",
    "TagDevice",
    "WitnessPeer",
    "WitnessStore",
]
