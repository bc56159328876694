"""Tables to trials, and back: what is read, and how what is wrong is named."""

import io
from pathlib import Path

import pytest

from keeptune.client import Choice, Fixed, Float, Int, Metric, results, settings, values
from keeptune.client import space as spaces
from keeptune.client.errors import InvalidInput
from keeptune.client.imports import csv_table
from keeptune.v1 import search_pb2

STUDY = search_pb2.Study(
    space=spaces.to_message(
        {
            "rate": Float(1e-5, 1.0, log=True),
            "layers": Int(1, 4),
            "kind": Choice(["sgd", "adam", True, 64]),
            "momentum": Float(0.0, 1.0, when={"kind": "sgd"}),
            "version": Fixed("b"),
        }
    ),
    metrics=settings.metrics_to_messages([Metric("loss", "minimize")], "minimize"),
)


def read(tmp_path: Path, *lines: str, study: search_pb2.Study = STUDY) -> csv_table.Table:
    file = tmp_path / "results.csv"
    file.write_text("\n".join(lines) + "\n")
    return csv_table.read(file, study)


def problems(tmp_path: Path, *lines: str, study: search_pb2.Study = STUDY) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, *lines, study=study)
    return {violation.field: violation.problem for violation in caught.value.violations}


def test_values_are_read_by_what_the_space_says(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "loss,rate,layers,kind,momentum,state",
        "0.5,1,3,sgd,0.9,",
        "0.4,1e-3,2.0,True,,COMPLETED",
        "0.3,0.1,2,64.0,,completed",
        ",0.1,2,adam,,FAILED",
        ",0.1,2,adam,,RUNNING",
    )
    found = [values.parameters(known.trial.parameters) for known in table.trials]
    assert found[0] == {
        "rate": 1.0, "layers": 3, "kind": "sgd", "momentum": 0.9, "version": "b",
    }  # fmt: skip
    assert found[1]["kind"] is True
    assert found[2]["kind"] == 64
    assert "momentum" not in found[1]
    assert [type(each["rate"]) for each in found] == [float] * 4
    assert [known.trial.final_measurement.metrics["loss"] for known in table.trials[:3]] == [
        0.5, 0.4, 0.3,
    ]  # fmt: skip
    assert table.trials[3].trial.state == search_pb2.TRIAL_STATE_FAILED
    assert table.skipped == 1
    assert table.trials[1].place == "results.csv line 3"


def test_every_wrong_cell_is_named(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "rate,layers,kind,loss",
        "fast,1,adam,0.1",
        "0.1,1.5,rmsprop,0.1",
        "0.1,1,adam",
        "0.1,1,adam,nan",
        "0.1,1,adam,low",
    )
    assert found == {
        "results.csv line 2, column 'rate'": "is 'fast'",
        "results.csv line 3, column 'layers'": "is '1.5'",
        "results.csv line 3, column 'kind'": "is 'rmsprop'",
        "results.csv line 4": "has 3 cells, the header 4",
        "results.csv line 5, column 'loss'": "is 'nan'",
        "results.csv line 6, column 'loss'": "is 'low'",
    }


def test_every_wrong_column_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path, "rate,params_rate,acuracy,loss") == {
        "results.csv, column 'params_rate'": "is parameter 'rate', as column 'rate' is",
        "results.csv, column 'acuracy'": "is no parameter and no metric of the study",
    }
    assert list(problems(tmp_path, "rate,layers").values()) == ["has no column of a metric"]
    assert list(problems(tmp_path).values()) == ["is empty"]


def test_a_column_can_be_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text("rate,layers,kind,loss,host\n0.1,1,adam,0.5,gpu-1\n")
    with pytest.raises(InvalidInput, match="--ignore 'host'"):
        csv_table.read(file, STUDY)
    assert len(csv_table.read(file, STUDY, ignore=["host"]).trials) == 1


def test_a_name_that_is_both_must_be_told(tmp_path: Path) -> None:
    both = search_pb2.Study(
        space=spaces.to_message({"loss": Float(0.0, 1.0)}), metrics=STUDY.metrics
    )
    assert list(problems(tmp_path, "loss", "1", study=both).values()) == [
        "can be parameter or metric 'loss'"
    ]
    (known,) = read(tmp_path, "parameters.loss,metrics.loss", "0.25,7", study=both).trials
    assert known.trial.parameters["loss"].double_value == 0.25
    assert known.trial.final_measurement.metrics["loss"] == 7


def test_the_table_that_pandas_writes_for_optuna(tmp_path: Path) -> None:
    (known,) = read(
        tmp_path,
        ",number,value,datetime_start,duration,params_kind,params_layers,params_rate,"
        "user_attrs_x,state",
        "0,0,0.5,2026-01-01 10:00:00,0 days,adam,2,0.1,,COMPLETE",
    ).trials
    assert known.trial.final_measurement.metrics["loss"] == 0.5
    assert values.parameters(known.trial.parameters) == {
        "kind": "adam", "layers": 2, "rate": 0.1, "version": "b",
    }  # fmt: skip


def test_what_is_written_reads_the_same(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "loss,rate,layers,kind,momentum,state,reason",
        "0.1,0.30000000000000004,3,sgd,0.9,,",
        '0.5,1e-3,2,true,,,"slow, but good"',
        ",1e-3,2,64,,FAILED,",
    )
    trials = []
    for number, known in enumerate(table.trials, start=1):
        known.trial.name = f"studies/s/trials/{number}"
        trials.append(results.trial(known.trial))
    text = io.StringIO()
    csv_table.write(STUDY, trials, text)
    again = read(tmp_path, *text.getvalue().splitlines())
    for one, other in zip(table.trials, again.trials, strict=True):
        one.trial.name = ""
        assert one.trial == other.trial
