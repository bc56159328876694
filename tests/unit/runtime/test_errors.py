import grpc
import pytest

from keeptune.runtime import errors
from keeptune.runtime.errors import (
    InvalidInput,
    KeeptuneError,
    NotFound,
    Unavailable,
    Violation,
    from_rpc_error,
    from_status,
    to_status,
    typed_errors,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, KeeptuneError) and kind is not KeeptuneError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_the_wire(kind: type[KeeptuneError]) -> None:
    error = kind(
        "it broke",
        reason="SOMETHING",
        field="study.seed",
        fix="mend it",
        retry_after=1.25,
        metadata={"name": "studies/x"},
    )
    back = from_status(to_status(error))
    assert type(back) is kind
    assert back.message == error.message
    assert back.violations == error.violations
    assert back.violations[0].field == "study.seed"
    assert (back.reason, back.fix, back.retry_after) == ("SOMETHING", "mend it", 1.25)
    assert back.metadata == {"name": "studies/x"}
    assert back.retryable is error.retryable


def test_each_canonical_code_has_one_error() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    missing = set(grpc.StatusCode) - set(codes)
    assert missing == {
        grpc.StatusCode.OK,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.OUT_OF_RANGE,
    }


def test_the_type_says_whether_to_try_again() -> None:
    retryable = {kind.__name__ for kind in KINDS if kind("x").retryable}
    assert retryable == {"Unavailable", "DeadlineExceeded", "ResourceExhausted"}


def test_invalid_input_names_the_field_the_problem_and_the_fix() -> None:
    error = InvalidInput(
        field="study.space.parameters[2].min", problem="is above max (3 > 1)", fix="swap them"
    )
    assert str(error) == "study.space.parameters[2].min is above max (3 > 1); fix: swap them"
    assert error.field == "study.space.parameters[2].min"
    assert error.fix == "swap them"


def test_many_violations_make_one_error() -> None:
    error = InvalidInput.many([Violation("a", "is wrong", "mend it"), Violation("b", "is empty")])
    assert str(error) == "a is wrong; fix: mend it; b is empty"
    assert [violation.field for violation in error.violations] == ["a", "b"]


def test_a_fix_stands_in_the_message() -> None:
    error = NotFound("studies/x does not exist", fix="list what there is")
    assert str(error) == "studies/x does not exist; fix: list what there is"


class Failed(grpc.RpcError):
    """A failed call without details, as another server sends it."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "connection refused"


def test_errors_of_other_servers_are_typed_too() -> None:
    error = from_rpc_error(Failed())
    assert isinstance(error, Unavailable)
    assert error.message == "connection refused"
    with pytest.raises(Unavailable), typed_errors():
        raise Failed
