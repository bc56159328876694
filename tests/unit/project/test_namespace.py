"""keeptune is a PEP 420 namespace over four roots: one stray __init__.py hides the other three."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("root", ["protos", "services", "agent", "clients/python"])
def test_no_root_of_the_namespace_has_an_init(root: str) -> None:
    assert not (ROOT / root / "keeptune" / "__init__.py").exists()
    assert not (ROOT / root / "__init__.py").exists()


def test_the_vendored_rules_leave_the_name_buf_open() -> None:
    assert not list((ROOT / "protos" / "buf").rglob("__init__.py"))


def test_every_portion_is_a_regular_package() -> None:
    # Type checker and linter pass over a package without an __init__.py.
    for root in ("services", "agent", "clients/python"):
        for portion in (ROOT / root / "keeptune").iterdir():
            if portion.is_dir() and portion.name != "__pycache__":
                assert (portion / "__init__.py").is_file(), portion
