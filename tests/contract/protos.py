"""The protos as data: every RPC of the package, and what stands about its fields."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf import message_factory
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)
from google.protobuf.message import Message

from buf.validate import validate_pb2
from keeptune.v1 import (
    agent_pb2,
    deployment_pb2,
    evaluation_pb2,
    monitoring_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
    types_pb2,
)

FILES: tuple[FileDescriptor, ...] = tuple(
    each.DESCRIPTOR
    for each in (
        agent_pb2,
        deployment_pb2,
        evaluation_pb2,
        monitoring_pb2,
        retuning_pb2,
        search_pb2,
        training_pb2,
        types_pb2,
    )
)

# By short name, e.g. `SearchService.GetStudy`.
RPCS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
}


def is_read(rpc: str) -> bool:
    """Whether it changes nothing, as its name says."""
    return rpc.partition(".")[2].startswith(("Get", "List", "Watch", "Fetch", "Render"))


def messages() -> Iterator[Descriptor]:
    """Every message, nested ones too; the entries of maps are none."""
    pending = [each for file in FILES for each in file.message_types_by_name.values()]
    while pending:
        message = pending.pop()
        if not message.GetOptions().map_entry:
            yield message
            pending.extend(message.nested_types)


def enums() -> Iterator[EnumDescriptor]:
    for file in FILES:
        yield from file.enum_types_by_name.values()
    for message in messages():
        yield from message.enum_types


def new(descriptor: Descriptor) -> Message:
    """An empty message of that type."""
    return message_factory.GetMessageClass(descriptor)()


def rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """Its constraints in the proto."""
    return field.GetOptions().Extensions[validate_pb2.field]


def is_message(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_MESSAGE


def is_map(field: FieldDescriptor) -> bool:
    return is_message(field) and bool(field.message_type.GetOptions().map_entry)
