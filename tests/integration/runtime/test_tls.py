"""Encrypted servers, and clients that trust them or not."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import calling, open_channel
from keeptune.runtime.config import ServerSettings, TlsSettings
from keeptune.runtime.errors import DeadlineExceeded, InvalidInput, KeeptuneError, Unavailable
from keeptune.runtime.server import Server, Tokens
from keeptune.v1 import search_pb2


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = certify(name, key, self.certificate.subject, self.key, ca=False)
        return write(self.folder / name, certificate, key)


def certify(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name | None,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(signer, hashes.SHA256())
    )


def write(
    stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    cert_file, key_file = stem.with_suffix(".pem"), stem.with_suffix(".key")
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def new_authority(folder: Path) -> Authority:
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certify("authority", key, None, key, ca=True)
    write(folder / "ca", certificate, key)
    return Authority(folder, key, certificate)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return new_authority(tmp_path / "ca")


async def get(running: Any, **credentials: Any) -> str:
    stub = await running.stub(running.credentials(**credentials), wait_for_ready=False, timeout=1.0)
    name: str = (await calling(stub.GetStudy(search_pb2.GetStudyRequest(name="studies/x")))).name
    return name


async def test_a_client_that_trusts_the_authority_is_served(
    run_server: Any, authority: Authority
) -> None:
    cert, key = authority.issue("server")
    running = await run_server(listen="0.0.0.0:0", tls=TlsSettings(cert=cert, key=key))
    running.server._address = type(running.server._address)("localhost", _port(running))
    assert await get(running, ca=authority.file) == "studies/x"


async def test_strangers_are_not_trusted(
    run_server: Any, authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.issue("server")
    running = await run_server(tls=TlsSettings(cert=cert, key=key))
    other = new_authority(tmp_path / "other")
    for credentials in ({"ca": other.file}, {}):
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await get(running, **credentials)
    assert running.servicer.seen == []


async def test_callers_must_show_a_certificate_when_asked(
    run_server: Any, authority: Authority
) -> None:
    cert, key = authority.issue("server")
    tls = TlsSettings(cert=cert, key=key, client_ca=authority.file)
    running = await run_server(tls=tls)
    with pytest.raises(KeeptuneError):
        await get(running, ca=authority.file)
    client_cert, client_key = authority.issue("client")
    answer = await get(running, ca=authority.file, cert=client_cert, key=client_key)
    assert answer == "studies/x"


def test_missing_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.pem"
    with pytest.raises(InvalidInput, match=r"nothing\.pem"):
        open_channel("localhost:1", credentials=ClientCredentials(ca=missing))


async def test_a_server_names_its_missing_files(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.pem"
    settings = ServerSettings(tls=TlsSettings(cert=missing, key=missing))
    with pytest.raises(InvalidInput, match=r"nothing\.pem"):
        await Server([], settings, tokens=Tokens({})).start()


def test_a_token_never_crosses_the_network_in_the_clear() -> None:
    with pytest.raises(InvalidInput) as caught:
        open_channel("example.com:7070", credentials=ClientCredentials(token="t"))
    assert caught.value.reason == "TLS_REQUIRED"


def _port(running: Any) -> int:
    return int(running.server.address.rpartition(":")[2])
