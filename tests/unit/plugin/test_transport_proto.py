"""The Python of the .proto files is committed, so that an installation needs no compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from qkd_kms_adapters.openbao_plugin.transport.proto import (
    backend_pb2,
    host_pb2,
    multiplexing_pb2,
    version_pb2,
)

ADAPTERS = Path(__file__).parents[3] / "kms_adapters"
COMMITTED = (backend_pb2, host_pb2, multiplexing_pb2, version_pb2)


@pytest.mark.parametrize("module", COMMITTED, ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_is_committed_is_what_protoc_makes_of_the_source(module, tmp_path):
    made = tmp_path / "made"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ADAPTERS}"]
    command += [f"--descriptor_set_out={made}", str(ADAPTERS / module.DESCRIPTOR.name)]
    subprocess.run(command, check=True)
    [compiled] = FileDescriptorSet.FromString(made.read_bytes()).file
    for each in compiled.message_type:  # names for JSON, which a descriptor of Python leaves out
        for field in each.field:
            field.ClearField("json_name")
        for nested in each.nested_type:
            for field in nested.field:
                field.ClearField("json_name")
    committed = compiled.FromString(module.DESCRIPTOR.serialized_pb)
    assert committed == compiled
