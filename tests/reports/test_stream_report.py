from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from stream_results import SPACE, results, run

from lap_monai.reports import ReplaySample, StreamPanel, render_stream_markdown, write_stream_report

HOSTILE = "<script>alert(1)</script>"
LABELS = {"finetune": "Fine-tuning", "ddcl": "DDCL", "joint": "Joint"}


def made(labels: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    rows = [entry for seed in range(2) for entry in run("finetune", seed, loss=0.2)]
    rows += [entry for seed in range(2) for entry in run("ddcl", seed, loss=-0.01)]
    rows += [entry for seed in range(2) for entry in run("joint", seed, lift=0.1, loss=0)]
    return results(rows, labels or LABELS, **changes)


def page(tmp_path: Path, content: dict[str, Any], **more: Any) -> str:
    return write_stream_report(tmp_path / "report.html", content, SPACE, **more).read_text(encoding="utf-8")


def test_one_file_that_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, made())
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_shows_curves_forgetting_cost_and_what_is_missing(tmp_path: Path) -> None:
    missing = [{"method": "ddcl", "step": 2, "seed": 7, "fold": None, "status": "failed", "reason": "no generator"}]
    text = page(tmp_path, made(not_done=missing, findings=["no pixel of ureter"]))
    assert "ddcl step 2 seed 7: failed, no generator" in text
    assert "no pixel of ureter" in text
    assert "Harmonic mean of base and new" in text
    assert text.count("step 1</text>") >= 4  # the axis of each curve
    assert "+0.400" in text  # the liver's forgetting under fine-tuning, two steps of 0.2
    assert 'class="lost gained"' in text  # of the liver, under a method that goes on learning it
    assert "2 kB" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    text = page(tmp_path, made({**LABELS, "ddcl": HOSTILE}, description=HOSTILE, findings=[HOSTILE]))
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") > 3


def test_panels_show_every_method_after_every_step_and_samples_their_teacher(tmp_path: Path) -> None:
    grid = np.zeros((8, 12), np.uint8)
    frame = np.full((8, 12, 3), 90, np.uint8)
    by_method = {"finetune": {0: grid, 1: grid, 2: grid}, "joint": {2: grid}}
    panel = StreamPanel("frame_7", "0.5", frame, grid + 1, by_method)
    samples = [ReplaySample(0, "image 3", frame, grid + 1), ReplaySample(1, "image 9", frame, None)]
    text = page(tmp_path, made(), panels=[panel], samples=samples)
    assert text.count("of frame_7") == 2
    assert len(re.findall(r'alt="Fine-tuning after step \d, frame_7"', text)) == 3
    assert len(re.findall(r'alt="Joint after step \d, frame_7"', text)) == 1
    assert text.count("image 3, teacher") == 2  # its alternative text and its caption
    assert "image 9, synthetic" in text
    assert "image 9, teacher" not in text


def test_markdown_holds_every_method_matrix_and_comparison() -> None:
    text = render_stream_markdown(made())
    assert "| Fine-tuning | 2 |" in text
    assert "| Joint | 2 |" in text
    assert "| Joint | 0 | 0." not in text
    assert re.search(r"\| DDCL \| Fine-tuning \| \+0\.\d{3} ", text)
    assert "| DDCL | 0 | 200 | 2 kB | 3.0 |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| Fine-tuning | 0.")}
    assert widths == {13}


def test_a_stream_without_any_result_is_still_a_page(tmp_path: Path) -> None:
    content = results([], LABELS)
    assert "made_up" in page(tmp_path, content)
    assert "made_up" in render_stream_markdown(content)
