"""Reading a config file as it stands, where only a few facts of it are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_config(file: Path | None) -> dict[str, Any]:
    """The sections of a config file; empty when none is given. Raises InvalidInput."""
    if file is None:
        return {}
    import yaml

    from keeptune.runtime.errors import InvalidInput

    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(field="config", problem=f"cannot be read: {error}") from None
    return content if isinstance(content, dict) else {}
