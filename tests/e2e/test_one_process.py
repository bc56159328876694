"""The loop closes with the whole control plane in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from keeptune.demo.report import write_report
from keeptune.demo.stage import build_stage
from keeptune.demo.story import Script, Story


@pytest.mark.triton
@pytest.mark.timeout(420)
@pytest.mark.xdist_group("loop")
async def test_the_loop_closes_in_one_process(tmp_path: Path, serving_host: Path) -> None:
    stage = build_stage(tmp_path, serving_host=serving_host)
    script = Script(seed=11, calm_requests=900, trials=6)
    story = Story(stage, script, Console(stderr=True))
    summary = await story.run()
    assert summary.problems == []
    assert summary.accuracy_after is not None
    assert summary.accuracy_drifted is not None
    assert summary.accuracy_after > summary.accuracy_drifted + 0.1
    assert summary.failed_requests == 0
    assert summary.false_alarms == 0
    assert summary.versions == ["1", "2"]
    assert summary.requests_to_detect is not None
    assert summary.agent_rss_mb < 120
    picture, page = write_report(tmp_path, story.timeline, summary)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "http" not in text.replace("http-equiv", "")
