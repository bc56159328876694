"""Captured samples: taken in from hosts, and frozen into datasets for training."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog
from sqlalchemy import Connection

from keeptune.deployment import samples
from keeptune.deployment.model import Signature
from keeptune.deployment.samples import Samples
from keeptune.deployment.sql_store import captures as store
from keeptune.deployment.sql_store import registry
from keeptune.deployment.sql_store.captures import Upload
from keeptune.runtime import artifacts, names
from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.convert import from_timestamp, to_timestamp
from keeptune.runtime.db import Database
from keeptune.runtime.errors import FailedPrecondition, InvalidInput, KeeptuneError, NotFound
from keeptune.v1 import deployment_pb2, types_pb2

log = structlog.get_logger()

_MEDIA_TYPE = "application/x-npz"
_DEFAULT_RECENT = 0.25
# An upload may unpack to so many times its own size.
_MAX_RATIO = 16


@dataclass(frozen=True)
class Captures:
    """`max_upload_bytes` bounds one upload, `max_kept_bytes` what is kept for each model."""

    database: Database
    blobs: ArtifactStore
    max_upload_bytes: int
    max_kept_bytes: int

    async def upload(
        self, host: str, header: deployment_pb2.CaptureHeader, data: AsyncIterator[bytes]
    ) -> int:
        """Takes one upload in, whole and durable; how many rows it has.

        Repeated, it gives the first answer. Raises InvalidInput naming what is wrong with it; then
        nothing is kept.
        """
        known = await self.database.read(lambda c: store.find(c, host, header.request_id))
        if known is not None:
            return _same(known, header).rows
        signature = await self._signature(header)
        content = await self._receive(header, data)
        read = await asyncio.to_thread(
            samples.read,
            content,
            signature,
            max_bytes=self.max_upload_bytes * _MAX_RATIO,
            field="data",
        )
        if len(read) != header.rows or not len(read):
            raise InvalidInput(
                field="header.rows",
                problem=f"is {header.rows}; the data has {len(read)} rows",
                fix="count the rows of the arrays; send at least one",
            )
        blob = await self.blobs.put_bytes(content, media_type=_MEDIA_TYPE)
        upload = Upload(
            host=host,
            request_id=header.request_id,
            model=header.model,
            version=header.version,
            rows=len(read),
            first_time=_moment(float(read.times.min())),
            last_time=_moment(float(read.times.max())),
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
        )
        rows, forgotten = await self.database.run(lambda c: self._keep(c, upload, header))
        if forgotten:
            log.info("oldest captures forgotten", model=upload.model, uploads=len(forgotten))
            await self._delete(forgotten)
        return rows

    def _keep(
        self, connection: Connection, upload: Upload, header: deployment_pb2.CaptureHeader
    ) -> tuple[int, list[str]]:
        known = store.find(connection, upload.host, upload.request_id)
        if known is not None:
            return _same(known, header).rows, []
        store.add(connection, upload)
        return upload.rows, store.trim(connection, upload.model, self.max_kept_bytes)

    async def _delete(self, forgotten: list[str]) -> None:
        """Frees their room. What a kill leaves here is a blob that nobody knows, and no harm."""
        for sha256 in forgotten:
            if await self.database.read(partial(store.is_kept, sha256=sha256)):
                continue
            try:
                await self.blobs.delete(sha256)
            except KeeptuneError as error:
                log.warning("forgotten captures not deleted", sha256=sha256, error=error.message)

    async def _signature(self, header: deployment_pb2.CaptureHeader) -> Signature:
        if names.parse_version(header.version, field="header.version")[0] != names.parse_model(
            header.model, field="header.model"
        ):
            raise InvalidInput(
                field="header.version",
                problem=f"is {header.version}, which is no version of {header.model}",
                fix="name the version that answered the requests",
            )
        record = await self.database.read(lambda c: registry.versions.find(c, header.version))
        if record is None:
            raise NotFound(
                f"{header.version} does not exist",
                field="header.version",
                fix="name the version that answered the requests",
            )
        return record.doc.signature

    async def _receive(
        self, header: deployment_pb2.CaptureHeader, data: AsyncIterator[bytes]
    ) -> bytes:
        content = bytearray()
        async for part in data:
            content += part
            if len(content) > self.max_upload_bytes:
                raise InvalidInput(
                    field="data",
                    problem=f"has more than {self.max_upload_bytes} bytes",
                    fix="send fewer rows at a time",
                    reason="UPLOAD_TOO_LARGE",
                )
        found = hashlib.sha256(content).hexdigest()
        if found != header.sha256:
            raise InvalidInput(
                field="header.sha256",
                problem=f"is {header.sha256}; the data received has {found}",
                fix="send the data again",
                reason="CHECKSUM_MISMATCH",
            )
        return bytes(content)

    async def export(
        self, request: deployment_pb2.ExportCapturesRequest
    ) -> deployment_pb2.CaptureExport:
        """A new dataset of the labelled samples in the window, of all hosts.

        Raises FailedPrecondition, with the counts, while there are fewer than `min_rows`.
        """
        start, end = from_timestamp(request.start_time), from_timestamp(request.end_time)
        if start is not None and end is not None and end <= start:
            raise InvalidInput(field="end_time", problem="is not after start_time", fix="swap them")
        uploads = await self.database.read(lambda c: store.between(c, request.model, start, end))
        wanted = max(request.min_rows, 1)
        available = sum(upload.rows for upload in uploads)
        if available < wanted:
            raise _too_few(request.model, available, wanted, start)
        signatures = await self.database.read(
            lambda c: {
                upload.version: registry.versions.get(c, upload.version).doc.signature
                for upload in uploads
            }
        )
        joined = await asyncio.to_thread(self._join, uploads, signatures, start, end)
        if request.max_rows and len(joined) > request.max_rows:
            joined = samples.newest(joined, request.max_rows)
        if len(joined) < wanted:
            raise _too_few(request.model, len(joined), wanted, start)
        fraction = (
            request.recent_fraction if request.HasField("recent_fraction") else _DEFAULT_RECENT
        )
        older, recent = samples.split(joined, fraction)
        return deployment_pb2.CaptureExport(
            training=await self._dataset(older, "captures"),
            training_rows=len(older),
            recent=await self._dataset(recent, "recent") if len(recent) else None,
            recent_rows=len(recent),
            first_time=to_timestamp(_moment(float(joined.times[0]))),
            last_time=to_timestamp(_moment(float(joined.times[-1]))),
        )

    def _join(
        self,
        uploads: list[Upload],
        signatures: dict[str, Signature],
        start: datetime | None,
        end: datetime | None,
    ) -> Samples:
        """Reads and joins; what was captured for another signature than the newest is left out."""
        current = signatures[uploads[-1].version]
        parts = []
        for upload in uploads:
            signature = signatures[upload.version]
            if (signature.inputs, signature.task) != (current.inputs, current.task):
                log.info("capture of another signature left out", version=upload.version)
                continue
            try:
                content = self.blobs.get_bytes_sync(upload.sha256)
            except NotFound:
                log.warning("capture left out: forgotten meanwhile", upload=upload.request_id)
                continue
            read = samples.read(
                content,
                signature,
                max_bytes=self.max_upload_bytes * _MAX_RATIO,
                field=f"captures[{upload.request_id}]",
            )
            parts.append((upload.host, samples.labelled(samples.within(read, start, end))))
        if not parts:
            raise _too_few(uploads[-1].model, 0, 1, start)
        return samples.join(parts)

    async def _dataset(self, rows: Samples, name: str) -> types_pb2.Dataset:
        content = await asyncio.to_thread(samples.pack, rows)
        blob = await self.blobs.put_bytes(content, media_type=_MEDIA_TYPE, filename=f"{name}.npz")
        return types_pb2.Dataset(
            artifact=artifacts.to_proto(blob),
            format=types_pb2.DATASET_FORMAT_NPZ,
            target_column=samples.OUTCOME,
            feature_columns=samples.feature_columns(rows),
            display_name=name,
        )


def _same(known: Upload, header: deployment_pb2.CaptureHeader) -> Upload:
    if known.sha256 != header.sha256:
        raise InvalidInput(
            field="header.request_id",
            problem=f"{header.request_id!r} was used for another upload",
            fix="use a new request_id for each upload, the same one only to repeat it",
            reason="REQUEST_ID_REUSED",
        )
    return known


def _moment(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidInput(
            field=f"data[{samples.TIME}]",
            problem=f"has {seconds:g}, which is no time",
            fix="give seconds since 1970 UTC",
        ) from None


def _too_few(model: str, rows: int, wanted: int, start: datetime | None) -> FailedPrecondition:
    since = f" since {start:%Y-%m-%d %H:%M:%S} UTC" if start is not None else ""
    return FailedPrecondition(
        f"{model} has {rows} of {wanted} labelled samples{since}",
        reason="TOO_FEW_CAPTURES",
        fix="wait for more; see that capture is enabled and outcomes are recorded",
        metadata={"rows": str(rows), "min_rows": str(wanted)},
    )
