"""Population-based training from one's own code: the example of the page on optimizers."""

import re
from pathlib import Path

import numpy as np
import pytest

from keeptune.client import Client, Study
from tests.fixtures.served import Served

PAGE = Path(__file__).parents[3] / "docs" / "optimizers.md"


def test_the_example_of_the_page(
    search_server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(# population.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.setenv("KEEPTUNE_ADDRESS", search_server.address)
    monkeypatch.setenv("KEEPTUNE_TOKENS_FILE", str(search_server.tokens_file))
    names: dict[str, object] = {}
    exec(example, names)
    assert "loss 0." in capsys.readouterr().out
    client, study = names["client"], names["study"]
    assert isinstance(client, Client) and isinstance(study, Study)
    trials = study.results(order_by="create_time")
    client.close()
    begun_anew = [trial for trial in trials if not trial.continue_from]
    assert (len(trials), len(begun_anew)) == (60, 6)
    assert any("a copy of" in trial.because for trial in trials)
    rates = [float(trial.parameters["rate"]) for trial in trials]
    # The rate falls while the weights come near.
    assert np.median(rates[-12:]) < np.median(rates[12:24])
