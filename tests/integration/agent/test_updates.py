"""Updates of a real Triton: no request is lost, and there is always a way back."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from keeptune.agent.health import ModelHealth
from keeptune.agent.model_config import Platform
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_model import ModelLoadFailed
from keeptune.agent.updates import ModelUpdater
from keeptune.runtime.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from tests.fixtures.onnx_models import make_package, scale_config, scale_model
from tests.fixtures.triton import RunningTriton
from tests.integration.agent.load import steady_load

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]


async def _served_scale(client: TritonClient, model: str, version: int = 0) -> float:
    answer = await client.infer(model, {"x": np.ones((1, 4), np.float32)}, version=version)
    return float(answer["y"][0, 0])


@pytest.mark.parametrize("platform", ["onnxruntime", "python"])
async def test_whole_sequence_under_load_fails_no_request(
    triton: RunningTriton,
    triton_client: TritonClient,
    updater: ModelUpdater,
    tmp_path: Path,
    platform: Platform,
) -> None:
    model = f"steady-{platform}"
    old = make_package(tmp_path, model, 1, scale_model(2.0), platform=platform)
    new = make_package(tmp_path, model, 2, scale_model(3.0), platform=platform)
    assert await updater.install(old) == (1,)
    async with steady_load(triton, model) as load:
        await asyncio.sleep(0.5)
        challenger = await updater.stage(new)
        assert await _served_scale(triton_client, challenger) == 3.0
        assert await _served_scale(triton_client, model) == 2.0
        assert set(load.answers) == {2.0}, "users' requests went to a challenger"

        assert await updater.install(new) == (1, 2)
        await updater.discard_challenger(model)
        assert await _served_scale(triton_client, model) == 3.0

        loop = asyncio.get_running_loop()
        began = loop.time()
        await updater.roll_back(model, 1)
        back_seconds = loop.time() - began
        assert await _served_scale(triton_client, model) == 2.0

        assert await updater.install(new) == (1, 2)
        await updater.promote(model, 2)
        await asyncio.sleep(0.3)
        assert await updater.loaded(model) == (2,)
        await updater.remove_version(model, 1)
        assert await _served_scale(triton_client, model) == 3.0
        await load.more_than(300)
    assert load.failures == []
    assert sum(load.answers.values()) == load.sent > 300
    assert set(load.answers) == {2.0, 3.0}
    assert back_seconds < 0.5
    assert triton.repository.names().count(f"{model}--challenger") == 0


async def test_versions_that_cannot_share_a_config_are_swapped_without_loss(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "reshaped"
    old = make_package(tmp_path, model, 1, scale_model(2.0))
    other = scale_config(extra="dynamic_batching { max_queue_delay_microseconds: 50 }")
    new = make_package(tmp_path, model, 2, scale_model(3.0), config=other)
    await updater.install(old)
    async with steady_load(triton, model) as load:
        assert await updater.install(new) == (2,)
        assert await _served_scale(triton_client, model) == 3.0
        await updater.roll_back(model, 1)
        assert await _served_scale(triton_client, model) == 2.0
        await load.more_than(100)
    assert load.failures == []
    assert sum(load.answers.values()) == load.sent > 100


async def test_model_that_triton_refuses_leaves_everything_as_it_was(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "picky"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    bad = make_package(tmp_path, model, 2, scale_model(1.0, op="NoSuchOperator"))
    async with steady_load(triton, model) as load:
        with pytest.raises(ModelLoadFailed, match="NoSuchOperator"):
            await updater.stage(bad)
        with pytest.raises(ModelLoadFailed, match="NoSuchOperator"):
            await updater.install(bad)
    assert load.failures == []
    assert set(load.answers) == {2.0}
    state = await updater.state(model)
    assert state.serving == (1,)
    assert list(state.versions) == [1]
    assert f"{model}--challenger" not in triton.repository.names()
    assert await updater.loaded(model) == (1,)
    # The number was never used, so that a sound package may have it.
    assert await updater.install(make_package(tmp_path, model, 2, scale_model(3.0))) == (1, 2)
    assert await _served_scale(triton_client, model) == 3.0


async def test_first_version_that_triton_refuses_leaves_nothing(
    triton: RunningTriton, updater: ModelUpdater, tmp_path: Path
) -> None:
    wrong_shape = make_package(
        tmp_path, "stillborn", 1, scale_model(2.0), config=scale_config(features=5)
    )
    with pytest.raises(ModelLoadFailed, match="zeros"):
        await updater.install(wrong_shape)
    assert "stillborn" not in triton.repository.names()


async def test_truncated_model_never_reaches_the_repository(
    triton: RunningTriton, updater: ModelUpdater, tmp_path: Path
) -> None:
    content = scale_model(2.0)
    with pytest.raises(InvalidInput, match="cut short") as caught:
        await updater.install(make_package(tmp_path, "cut", 1, content[: len(content) // 2]))
    assert caught.value.field == "files[model.onnx]"
    assert "cut" not in triton.repository.names()


async def test_missing_model_file_is_a_clean_error_and_can_be_removed(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "hollow"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    await updater.install(make_package(tmp_path, model, 2, scale_model(3.0)))
    await updater.promote(model, 1)
    (triton.repository.root / model / "2" / "model.onnx").unlink()
    with pytest.raises(ModelLoadFailed, match="missing"):
        await updater.promote(model, 2)
    assert await _served_scale(triton_client, model) == 2.0
    assert (await updater.state(model)).serving == (1,)


async def test_version_listed_but_missing_on_disk_is_noticed(
    triton: RunningTriton, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "ghost"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    await updater.install(make_package(tmp_path, model, 2, scale_model(3.0)))
    await updater.promote(model, 1)
    config = triton.repository.root / model / "config.pbtxt"
    config.write_text(config.read_text().replace("[ 1 ]", "[ 1, 2 ]"))
    shutil.rmtree(triton.repository.root / model / "2")
    restored = {one.model: one for one in await updater.restore()}
    assert "version 2 of ghost is not ready" in restored[model].problem
    assert restored[model].serving == (1,)
    assert (await updater.state(model)).serving == (1,)


async def test_steps_are_idempotent_and_refuse_what_does_not_fit(
    triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "twice"
    first = make_package(tmp_path, model, 1, scale_model(2.0))
    for _ in range(2):
        assert await updater.stage(first) == f"{model}--challenger"
    for _ in range(2):
        assert await updater.install(first) == (1,)
        await updater.discard_challenger(model)
        await updater.promote(model, 1)
    other = make_package(tmp_path / "other", model, 1, scale_model(9.0))
    with pytest.raises(AlreadyExists):
        await updater.install(other)
    with pytest.raises(NotFound):
        await updater.promote(model, 7)
    with pytest.raises(FailedPrecondition, match="being served"):
        await updater.remove_version(model, 1)
    with pytest.raises(InvalidInput):
        await updater.promote("../twice", 1)
    assert await _served_scale(triton_client, model) == 2.0


async def test_staging_another_challenger_replaces_the_first(
    triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "rivals"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    await updater.stage(make_package(tmp_path, model, 2, scale_model(3.0)))
    name = await updater.stage(make_package(tmp_path, model, 3, scale_model(4.0)))
    assert await updater.loaded(name) == (3,)
    assert await _served_scale(triton_client, name) == 4.0
    assert await _served_scale(triton_client, model) == 2.0


async def test_older_version_can_be_deployed_again(
    triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "backward"
    first = make_package(tmp_path, model, 1, scale_model(2.0))
    await updater.install(make_package(tmp_path, model, 5, scale_model(3.0)))
    assert await updater.install(first) == (1, 5)
    assert await _served_scale(triton_client, model) == 3.0
    await updater.promote(model, 1)
    assert await _served_scale(triton_client, model) == 2.0


async def test_dead_stub_is_detected_and_repaired(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "mortal"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    health = ModelHealth(triton_client, updater)
    assert [one.healthy for one in await health.check(model)] == [True]
    _kill_stubs_of(triton.repository.root / model / "1")
    await asyncio.sleep(0.3)
    assert await triton_client.ready(model, 1), "Triton noticed by itself: the check is not needed"
    broken = await health.check(model)
    assert [one.healthy for one in broken] == [False]
    assert "Stub process" in broken[0].problem or "stub" in broken[0].problem.lower()
    assert [one.healthy for one in await health.repair(model)] == [True]
    assert await _served_scale(triton_client, model) == 2.0


async def test_canary_refuses_answers_that_do_not_fit(
    triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "infinite"
    await updater.install(make_package(tmp_path, model, 1, scale_model(float("inf"))))
    health = ModelHealth(triton_client, updater)
    ones = {"x": np.ones((1, 4), np.float32)}
    assert "not finite" in (await health.probe(model, 1, ones)).problem
    signature = await triton_client.signature(model, 1)
    wrong = dataclasses.replace(signature.outputs[0], shape=(7,))
    with pytest.raises(FailedPrecondition, match="shape"):
        await triton_client.canary(model, dataclasses.replace(signature, outputs=(wrong,)))
    assert "unknown model" in (await health.probe(model, 3)).problem


def _kill_stubs_of(version_folder: Path) -> None:
    import psutil

    killed = 0
    for process in psutil.process_iter(["name", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if "triton_python_backend_stub" in command and f"{version_folder}/" in command:
            process.kill()
            killed += 1
    assert killed == 1
