"""An objective that is broken is told once and does not eat the budget."""

from __future__ import annotations

import logging

import pytest

from keeptune.client import AsyncClient, Client, Float, Trial, errors
from tests.fixtures.served import Served

SPACE = {"x": Float(0, 1)}


def broken(trial: Trial) -> float:
    raise NameError(f"name 'train_one_epoch' is not defined ({trial.name})")


def test_an_objective_that_fails_alike_from_the_start_stops_the_loop(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    study = client.create_study(
        SPACE, metric="loss", budget=9, algorithm="random", pruning=None, max_retries=0
    )
    caplog.set_level(logging.WARNING, "keeptune.client")
    with pytest.raises(errors.FailedPrecondition, match=r"5 times alike.*NameError") as caught:
        study.optimize(broken)
    assert isinstance(caught.value.__cause__, NameError)
    said = [record for record in caplog.records if "failed" in record.getMessage()]
    assert [bool(record.exc_info) for record in said] == [True, False, False, False, False]
    status = study.status()
    assert status.active and status.trials["failed"] == 5
    # Mended, it has the rest of the budget.
    study.optimize(lambda trial: trial.parameters["x"])
    assert study.status().trials["completed"] == 4


def test_one_that_has_come_to_an_end_once_may_fail_as_often_as_it_likes(client: Client) -> None:
    study = client.create_study(SPACE, metric="loss", budget=9, algorithm="random", max_retries=0)
    study.optimize(lambda trial: 1.0 if trial.number == 1 else broken(trial))
    assert study.status().trials["failed"] == 8


async def test_without_an_event_loop_or_with_one_it_can_be_told_to_go_on(
    search_server: Served,
) -> None:
    async with AsyncClient(search_server.address, tokens_file=search_server.tokens_file) as client:
        study = await client.create_study(
            SPACE, metric="loss", budget=7, algorithm="random", max_retries=0
        )
        with pytest.raises(ExceptionGroup) as caught:
            await study.optimize(broken, give_up_after=2)
        assert caught.group_contains(errors.FailedPrecondition, match="2 times alike")
        await study.optimize(broken, give_up_after=0)
        assert (await study.status()).trials["failed"] == 7
