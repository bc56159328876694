"""What is given explicitly wins over the environment, and that over what this machine knows."""

from pathlib import Path

import pytest

from keeptune.client.connection import SERVICES, default_data_dir, discover
from keeptune.client.errors import FailedPrecondition, InvalidInput, Unauthenticated


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """As `keeptune dev` leaves it."""
    (tmp_path / "endpoint.json").write_text('{"address": "127.0.0.1:7310", "pid": 1}\n')
    tokens = tmp_path / "credentials"
    tokens.write_text("viewer look\nadmin from-file\n")
    tokens.chmod(0o600)
    return tmp_path


def test_what_dev_wrote_down_is_found(data_dir: Path) -> None:
    found = discover(environment={"KEEPTUNE_DATA_DIR": str(data_dir)})
    assert dict(found.addresses) == dict.fromkeys(SERVICES, "127.0.0.1:7310")
    assert found.credentials.token == "from-file"


def test_the_environment_wins_over_the_machine(data_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("admin from-environment\n")
    other.chmod(0o600)
    environment = {
        "KEEPTUNE_DATA_DIR": str(data_dir),
        "KEEPTUNE_ADDRESS": "host:1",
        "KEEPTUNE_TOKENS_FILE": str(other),
        "KEEPTUNE_CA": "/ca.pem",
    }
    found = discover(environment=environment)
    assert found.addresses["search"] == "host:1"
    assert (found.credentials.token, found.credentials.ca) == ("from-environment", Path("/ca.pem"))
    assert discover(environment=environment | {"KEEPTUNE_TOKEN": "t"}).credentials.token == "t"


def test_arguments_win_over_the_environment(data_dir: Path) -> None:
    environment = {
        "KEEPTUNE_ADDRESS": "host:1",
        "KEEPTUNE_TOKEN": "from-environment",
        "KEEPTUNE_CA": "/ca.pem",
    }
    found = discover(
        address="host:2",
        token="mine",
        ca=Path("/my.pem"),
        services={"training": "gpu:3"},
        environment=environment,
    )
    assert found.addresses == dict.fromkeys(SERVICES, "host:2") | {"training": "gpu:3"}
    assert (found.credentials.token, found.credentials.ca) == ("mine", Path("/my.pem"))


def test_a_tokens_file_that_is_named_wins_over_a_token_of_the_environment(data_dir: Path) -> None:
    found = discover(
        address="host:1",
        tokens_file=data_dir / "credentials",
        environment={"KEEPTUNE_TOKEN": "from-environment"},
    )
    assert found.credentials.token == "from-file"


def test_each_service_at_its_own_address(data_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "keeptune.yaml"
    config.write_text(
        "platform: {log_level: debug}\nservices:\n"
        + "".join(f"  {name}: host-{name}:1\n" for name in SERVICES)
        + f"  ca: /ca.pem\n  tokens_file: {data_dir}/credentials\n"
    )
    found = discover(config=config, environment={})
    assert found.addresses == {name: f"host-{name}:1" for name in SERVICES}
    assert (found.credentials.ca, found.credentials.token) == (Path("/ca.pem"), "from-file")
    # As in the services themselves, the environment wins over the file.
    environment = {"KEEPTUNE_SERVICES__SEARCH": "other:2", "KEEPTUNE_TOKEN": "t"}
    found = discover(config=config, environment=environment)
    assert (found.addresses["search"], found.addresses["training"]) == (
        "other:2",
        "host-training:1",
    )
    assert found.credentials.token == "t"
    config.write_text("services: {serach: host:1}\n")
    with pytest.raises(InvalidInput, match="serach"):
        discover(config=config, environment={})


def test_what_is_missing_or_wrong_says_what_to_do(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="keeptune dev"):
        discover(data_dir=tmp_path / "empty", token="t", environment={})
    with pytest.raises(InvalidInput, match="is no service"):
        discover(services={"serach": "host:1"}, token="t", environment={})
    with pytest.raises(Unauthenticated):
        discover(address="host:1", data_dir=tmp_path / "empty", environment={})
    (data_dir / "endpoint.json").write_text("{")
    with pytest.raises(FailedPrecondition, match=r"endpoint\.json"):
        discover(data_dir=data_dir, environment={})
    with pytest.raises(InvalidInput, match="config"):
        discover(config=tmp_path / "none.yaml", environment={})


def test_one_service_alone_needs_no_address_of_the_others(tmp_path: Path) -> None:
    found = discover(
        services={"search": "host:1"}, token="t", data_dir=tmp_path / "empty", environment={}
    )
    assert found.addresses["search"] == "host:1"
    with pytest.raises(FailedPrecondition, match=r"services\.training"):
        found.address_of("training")


def test_the_default_folder_follows_the_xdg_convention() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/x"}) == Path("/x/keeptune")
    assert default_data_dir({"KEEPTUNE_DATA_DIR": "/d", "XDG_DATA_HOME": "/x"}) == Path("/d")
