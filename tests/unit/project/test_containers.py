"""The container files say what the programs understand; building them needs an engine."""

import os
import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from keeptune.composition.assembly import read_configuration
from keeptune.composition.services import SERVICES

DOCKER = Path(__file__).parents[3] / "docker"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_every_role_has_a_dockerfile() -> None:
    assert {path.stem for path in DOCKER.glob("*.Dockerfile")} == {*SERVICES, "agent"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_configured_as_its_service_reads_it(
    compose: dict[str, Any], service: str
) -> None:
    container = compose["services"][service]
    configuration = read_configuration(
        (service,),
        file=DOCKER / "keeptune.yaml",
        env={k: v for k, v in container["environment"].items() if "__" in k},
        data_dir=None,
        listen="",
    )
    listen = configuration.server.value.listen
    host, port = getattr(configuration.services.value, service).split(":")
    assert host == service
    assert listen == f"0.0.0.0:{port}"
    assert container["ports"] == [f"{port}:{port}"]
    assert configuration.server.value.tls is not None
    assert str(configuration.platform.value.data_dir) == "/data"


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_its_service(compose: dict[str, Any], service: str) -> None:
    build = compose["services"][service]["build"]
    lines = (DOCKER.parent / build["dockerfile"]).read_text()
    port = compose["services"][service]["ports"][0].partition(":")[0]
    assert f'ENTRYPOINT ["keeptune", "serve", "{service}"]' in lines
    assert f'".[{service}]"' in lines
    assert re.findall(r"localhost:(\d+)", lines) == [port]
    assert f"EXPOSE {port}\n" in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="the key is given to the containers' user")
def test_the_certificates_are_for_the_services(tmp_path: Path) -> None:
    script = tmp_path / "certificates.sh"
    script.write_bytes((DOCKER / "certificates.sh").read_bytes())
    script.chmod(0o755)
    subprocess.run([script, "extra.example"], check=True, timeout=30, capture_output=True)
    folder = tmp_path / "certificates"
    assert (folder / "server.key").stat().st_uid == 10001
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "server.key", "server.pem"]

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    for name in (*SERVICES, "localhost", "extra.example"):
        _shake_hands(server, ssl.create_default_context(cafile=folder / "ca.pem"), name)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(server, ssl.create_default_context(cafile=folder / "ca.pem"), "other.example")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
