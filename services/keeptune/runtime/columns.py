"""The columns of a file of data, read one at a time: NPZ by numpy, CSV and Parquet by pyarrow."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from keeptune.runtime.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa


class Columns(Protocol):
    """Named columns; `field` is where a column's name stood in the request, for errors."""

    @property
    def names(self) -> list[str]: ...

    def is_text(self, name: str) -> bool: ...

    def require(self, name: str, field: str) -> None:
        """Raises InvalidInput, with near misses, when there is no such column."""

    def read(self, name: str, field: str) -> NDArray[np.generic]:
        """Its values; the rows are the first axis."""


@dataclass(frozen=True)
class NpzColumns:
    """The arrays of a NumPy archive. Arrays of Python objects are pickles and are refused."""

    source: io.BytesIO | Path
    where: str
    members: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]

    @classmethod
    def open(cls, source: io.BytesIO | Path, where: str, max_bytes: int) -> Self:
        members: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]] = {}
        try:
            with zipfile.ZipFile(source) as archive:
                infos = [i for i in archive.infolist() if i.filename.endswith(".npy")]
                if sum(info.file_size for info in infos) > max_bytes:
                    raise InvalidInput(
                        field=where,
                        problem=f"unpacks to more than {max_bytes >> 30} GiB",
                        fix="give a sample of it",
                    )
                for info in infos:
                    with archive.open(info) as member:
                        shape, dtype = _npy_header(member)
                    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                    # A header may claim any shape; numpy would allocate it before reading.
                    if not dtype.hasobject and size > info.file_size:
                        raise ValueError(f"{info.filename} is cut short")
                    members[info.filename.removesuffix(".npy")] = (shape, dtype)
        except InvalidInput:
            raise
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, SyntaxError) as error:
            raise _unreadable(where, "NPZ", error) from error
        if not members:
            raise _unreadable(where, "NPZ", ValueError("it holds no arrays"))
        return cls(source, where, members)

    @property
    def names(self) -> list[str]:
        return list(self.members)

    def is_text(self, name: str) -> bool:
        return name in self.members and self.members[name][1].kind in "USO"

    def require(self, name: str, field: str) -> None:
        _require(name, self.names, field, "array")
        shape, dtype = self.members[name]
        if dtype.hasobject:
            raise InvalidInput(
                field=field,
                problem=f"names {name!r}, an array of Python objects (a pickle), never loaded",
                fix="save it as numbers or as text: array.astype(str)",
            )
        if not shape:
            raise InvalidInput(
                field=field, problem=f"names {name!r}, a single number", fix="give a value a row"
            )

    def read(self, name: str, field: str) -> NDArray[np.generic]:
        self.require(name, field)
        try:
            with np.load(_rewound(self.source), allow_pickle=False) as archive:
                values: NDArray[np.generic] = archive[name]
        except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
            raise _unreadable(self.where, "NPZ", error) from error
        return values


@dataclass(frozen=True)
class TableColumns:
    """The columns of a CSV or Parquet file."""

    names: list[str]
    where: str
    kind: str
    source: io.BytesIO | Path
    schema: pa.Schema
    table: pa.Table | None = None

    @classmethod
    def open(cls, source: io.BytesIO | Path, where: str, *, csv: bool, text: list[str]) -> Self:
        """`text` are columns of a CSV that are taken as written: labels, for one."""
        import pyarrow as pa
        from pyarrow import parquet

        kind = "CSV" if csv else "Parquet"
        try:
            table = _read_csv(source, text) if csv else None
            schema = table.schema if table is not None else parquet.read_schema(_rewound(source))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(where, kind, error) from error
        names = [str(name) for name in schema.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(
                field=where, problem=f"has two columns {twice[0]!r}", fix="rename one of them"
            )
        return cls(names, where, kind, source, schema, table)

    def is_text(self, name: str) -> bool:
        import pyarrow as pa

        if name not in self.names:
            return False
        kind = self.schema.field(name).type
        return bool(
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_dictionary(kind)
        )

    def require(self, name: str, field: str) -> None:
        _require(name, self.names, field, "column")

    def read(self, name: str, field: str) -> NDArray[np.generic]:
        import pyarrow as pa
        from pyarrow import parquet

        self.require(name, field)
        try:
            table = self.table
            if table is None:
                table = parquet.read_table(_rewound(self.source), columns=[name])
            column = table.column(name).combine_chunks()
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            values: NDArray[np.generic] = column.to_numpy(zero_copy_only=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(self.where, self.kind, error) from error
        return values


def _read_csv(source: io.BytesIO | Path, text: list[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(
        column_types={name: pa.string() for name in text if name},
        strings_can_be_null=True,
        null_values=["", "NA", "NaN", "nan", "null"],
    )
    return csv.read_csv(_rewound(source), convert_options=options)


def _rewound(source: io.BytesIO | Path) -> io.BytesIO | str:
    if isinstance(source, Path):
        return str(source)
    source.seek(0)
    return source


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    return shape, dtype


def _require(name: str, names: list[str], field: str, what: str) -> None:
    if name not in names:
        near = get_close_matches(name, names, n=3) or names[:20]
        raise InvalidInput(
            field=field,
            problem=f"names {name!r}, but there is no such {what}",
            fix=f"did you mean {', '.join(near)}?",
        )


def _unreadable(where: str, kind: str, error: Exception) -> InvalidInput:
    return InvalidInput(
        field=where,
        problem=f"cannot be read as {kind}: {error}",
        fix="check the file, or set the dataset's format",
    )
