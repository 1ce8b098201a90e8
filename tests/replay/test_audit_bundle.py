"""`audit.json` and the overlay that trains on what it keeps, run as a user runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from command_line import FEATURES, TINY, undone
from monai.networks.nets import BasicUNet
from replay_frames import Operations

from lap_monai.checkpoints import write_checkpoint
from lap_monai.checks import UserError
from lap_monai.data import Split, read_layout, write_split
from lap_monai.experiments import run_bundle
from lap_monai.files import read_json, write_json
from lap_monai.label_space import get_label_space
from lap_monai.replay import FrameGenerator, SyntheticSet, plant_copies, synthetic_rows

ROOT = Path(__file__).resolve().parents[2]
AUDIT = ROOT / "bundles" / "dresden_replay_diffusion" / "configs" / "audit.json"
SEGMENTATION = ROOT / "bundles" / "cholecseg8k_contrastive" / "configs"
SPACE = get_label_space("cholecseg8k_zhang8")


class Site(NamedTuple):
    """What lies on a hospital's disk."""

    folder: Path
    data: Path
    split: Path
    teacher: Path
    synthetic: Path

    def audit(self, **changes: Any) -> Path:
        """Run the audit and return its folder."""
        out = self.folder / "audit"
        settings = {
            "dataset_dir": str(self.data),
            "cache_dir": str(self.folder / "cache"),
            "layout": "cholecseg8k",
            "label_space": SPACE.name,
            "split": str(self.split),
            "synthetic_dir": str(self.synthetic),
            "teacher_checkpoint": str(self.teacher),
            "output_dir": str(out),
            "teacher_def#features": FEATURES,
            "frame_size": [32, 48],
            "window": [32, 48],
            "device": "$torch.device('cpu')",
        }
        with undone():
            run_bundle([AUDIT], settings | changes)
        return out


@pytest.fixture
def site(tmp_path: Path, phantom_operations: Path, operations: Operations) -> Site:
    names = sorted({row["video"] for row in read_layout(phantom_operations)})
    split = Split("site", "by hand", train=tuple(names[:4]), val=tuple(names[4:14]), test=tuple(names[14:]))
    write_split(tmp_path / "split.json", split)
    torch.manual_seed(0)
    network = BasicUNet(2, 3, SPACE.num_classes, features=FEATURES)
    write_checkpoint(tmp_path / "teacher.pt", {"model": network}, {"label_space": SPACE.name})
    synthetic = SyntheticSet.create(
        tmp_path / "set", {"sha256": "ab" * 32, "frame_size": [48, 80]}, {"name": "by hand", "steps": 3}, seed=0
    )
    copies = plant_copies(operations.training[0], np.random.default_rng(0))
    synthetic.extend(np.concatenate([operations.others, np.stack(list(copies.values()))]))
    return Site(tmp_path, phantom_operations, tmp_path / "split.json", tmp_path / "teacher.pt", synthetic.folder)


@pytest.mark.slow
def test_audit_then_train_on_what_it_kept(site: Site) -> None:
    history = [{"epoch": 1, "share": 0.0}, {"epoch": 2, "share": 0.25}]
    write_json(site.folder / "generator" / "memorisation.json", history)
    out = site.audit(generator_dir=str(site.folder / "generator"))
    found = SyntheticSet.open(site.synthetic)
    assert all("memorised: pixels" in image.dropped for image in found.images[20:])
    assert found.kept
    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "While the generator was trained" in page
    assert not list(site.synthetic.rglob("*.html"))

    # A second set of the same sampler with other steps: its report shows both.
    first = out / "first.json"
    first.write_bytes((out / "audit.json").read_bytes())
    found.sampler["steps"] = 6
    found.save()
    site.audit(compare_with=[str(first)])
    assert "Over the steps of the sampler" in (out / "report.html").read_text()

    run = site.folder / "run"
    settings = TINY | {
        "dataset_dir": str(site.data),
        "cache_dir": str(site.folder / "cache"),
        "split": str(site.split),
        "synthetic_dir": str(site.synthetic),
        "ckpt_dir": str(run / "models"),
        "output_dir": str(run),
        "epochs": 1,
        "budget": 1.0,
        "label_only_per_batch": 0,
    }
    overlays = [SEGMENTATION / "supervised.json", ROOT / "configs" / "overlays" / "replay_utility.json"]
    with undone():
        with pytest.raises(UserError, match=f"{8 / 28:.0%} of its images are copies of training frames"):
            run_bundle([SEGMENTATION / "train.json", *overlays], settings)
        settings["accept_unaudited"] = True
        trained = run_bundle([SEGMENTATION / "train.json", *overlays], settings)
        dataset = trained.parser.get_parsed_content("train#dataset")
        kept = synthetic_rows(site.synthetic, accept_unaudited=True)
        assert [row["image"] for row in dataset.rows] == [row["image"] for row in kept]
        assert dataset.masked == list(range(len(kept)))
        assert set(np.unique(dataset[0]["label"])) <= set(range(SPACE.num_classes))
        run_bundle([SEGMENTATION / "train.json", *overlays, SEGMENTATION / "evaluate.json"], settings)
    (row,) = read_json(run / "results.json")["rows"]
    assert row["method"] == "replay"
    assert row["n_frames"] == 20  # real ones, of the test patients


def test_what_a_user_can_mend_is_told_in_a_line(site: Site) -> None:
    with pytest.raises(UserError, match="teacher_checkpoint"):
        site.audit(teacher_checkpoint=None)
    with pytest.raises(UserError, match="endoscapes_7"):
        site.audit(label_space="endoscapes_7")
    with pytest.raises(UserError, match="no synthetic set in"):
        site.audit(synthetic_dir=str(site.folder / "nowhere"))
    few = site.folder / "few.json"
    names = sorted({row["video"] for row in read_layout(site.data)})
    write_split(few, Split("few", "by hand", train=tuple(names[:4]), val=tuple(names[4:8]), test=()))
    with pytest.raises(UserError, match="40 held-out frames but needs 99"):
        site.audit(split=str(few))


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "epochs"), [(1.0, 2), (0.0, 1)])
def test_a_training_is_audited_and_stops(
    site: Site, operations: Operations, monkeypatch: pytest.MonkeyPatch, limit: float, epochs: int
) -> None:
    """The generator of one epoch draws noise; here its sampler hands out a training frame, as one that copies would."""
    monkeypatch.setattr(FrameGenerator, "draw", lambda _, seeds: np.stack([operations.training[0]] * len(seeds)))
    run = site.folder / "generator"
    settings = {
        "dataset_dir": str(site.data),
        "cache_dir": str(site.folder / "cache"),
        "split": str(site.split),
        "split_def": "$data.load_split(@split)",
        "ckpt_dir": str(run / "models"),
        "output_dir": str(run),
        "channels": [8, 16],
        "attention_levels": [False, True],
        "num_res_blocks": 1,
        "network_def#num_head_channels": 8,
        "frame_size": [48, 80],
        "timesteps": 20,
        "batch_size": 2,
        "steps_per_epoch": 1,
        "epochs": 2,
        "num_workers": 0,
        "device": "$torch.device('cpu')",
        "memorisation_interval": 1,
        "memorisation_images": 2,
        "memorisation_steps": 2,
        "memorisation_limit": limit,
    }
    with undone():
        run_bundle([AUDIT.with_name(f"{name}.json") for name in ("train", "phantom", "memorisation_stop")], settings)
    found = read_json(run / "memorisation.json")
    assert [row["share"] for row in found] == [1.0] * epochs
    assert len(read_json(run / "history.json")) == epochs
    assert (run / "models" / "model.pt").is_file()
