import pytest

from keeptune.runtime.addresses import Address, parse_address
from keeptune.runtime.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0), True),
        ("127.9.9.9:1", Address("127.9.9.9", 1), True),
        ("localhost:65535", Address("localhost", 65535), True),
        ("[::1]:7070", Address("::1", 7070), True),
        ("0.0.0.0:7070", Address("0.0.0.0", 7070), False),
        ("[::]:7070", Address("::", 7070), False),
        ("search.example.com:7070", Address("search.example.com", 7070), False),
        ("localhost.example.com:1", Address("localhost.example.com", 1), False),
    ],
)
def test_addresses(text: str, address: Address, loopback: bool) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert address.is_loopback is loopback


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":80", "host:x", "host:65536", "host:-1", "::1:80", "host:٣"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(text, field="server.listen")
    assert caught.value.field == "server.listen"
