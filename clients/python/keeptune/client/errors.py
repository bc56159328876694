"""What calls raise: one class for each kind of trouble, with the field and the way out.

`error.retryable` says whether the same call may succeed later, `error.reason` is a stable name for
programs, `error.violations` lists every field that is wrong.
"""

from keeptune.runtime.errors import (
    AlreadyExists,
    Cancelled,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidInput,
    KeeptuneError,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Violation,
)

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "Conflict",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidInput",
    "KeeptuneError",
    "NotFound",
    "NotImplementedYet",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Violation",
]
