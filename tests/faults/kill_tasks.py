"""The five commands that are killed, on tiny phantoms, and what of their results must be equal to the bit.

`predict` is there twice: a video's overlay is written in another way than pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import torch
import yaml
from killing import run
from PIL import Image

from lap_monai.files import read_json, write_json

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLES = REPOSITORY / "bundles"
CONTRAST, REPLAY, STEPS = (
    BUNDLES / name for name in ("cholecseg8k_contrastive", "dresden_replay_diffusion", "dresden_incremental")
)

FEATURES = [4, 8, 8, 16, 16, 4]
NETWORK = {
    "frame_size": [32, 48],
    "window": [32, 48],
    "overlap": 0,
    "steps_per_epoch": 2,
    "num_workers": 0,
    "device": "$torch.device('cpu')",
}
TRAIN = {
    **NETWORK,
    "backbone_def#features": FEATURES,
    "embedding_dim": 8,
    "masked_per_batch": 2,
    "label_only_per_batch": 2,
    "budget": 0.5,
    "val_interval": 1,
}
GENERATOR = {
    "frame_size": [32, 48],
    "channels": [8, 32],
    "attention_levels": [False, False],
    "num_res_blocks": 1,
    "timesteps": 20,
    "epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "num_workers": 0,
}
#: Two iterations teach a generator noise, of which the audit keeps nothing: so all is taken, kept or not.
EVERY_IMAGE = (
    "$(lambda every: (every.keep(replay.REASONS), every.rows())[1])(replay.SyntheticSet.open(@synthetic_sets[0]))"
)

#: What differs between two runs that are the same: times, places, and the revision, if somebody commits meanwhile.
_VOLATILE = {"seconds", "start", "end", "command", "earlier", "folder", "git"}


@dataclass(frozen=True)
class Task:
    """A command that can be killed.

    Args:
        name: of the command.
        words: folder of a run → its command line, for the first start and for every resumption.
        results: files that count, as patterns below the folder.
        victims: which processes there are to kill.
        environment: folder → variables.
    """

    name: str
    words: Callable[[Path], list[str]]
    results: tuple[str, ...]
    victims: tuple[str, ...] = ("all",)
    environment: Callable[[Path], Mapping[str, str]] = field(default=lambda folder: {})

    def start(self, folder: Path, *more: Any) -> Any:
        """Run the command in `folder`; see `killing.run`."""
        return run(self.words(folder), folder, *more, environment=self.environment(folder))

    def fingerprints(self, folder: Path) -> dict[str, str]:
        """File → hash of what it says, without times and places.

        Raises:
            FileNotFoundError: if a pattern matches nothing.
        """
        found = {}
        for pattern in self.results:
            paths = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
            if not paths:
                raise FileNotFoundError(f"{self.name} left no {pattern}")
            found |= {path.relative_to(folder).as_posix(): fingerprint(path) for path in paths}
        return found


def fingerprint(path: Path) -> str:
    """Return the hash of what a file says: tensors and states of a checkpoint, numbers of a JSON file, else bytes."""
    digest = hashlib.sha256()
    if path.suffix == ".pt":
        _feed(digest.update, torch.load(path, weights_only=True))
    elif path.suffix == ".json":
        digest.update(json.dumps(_settled(read_json(path)), sort_keys=True).encode())
    else:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _feed(take: Callable[[bytes], Any], value: Any) -> None:
    if isinstance(value, torch.Tensor):
        take(f"{value.dtype} {tuple(value.shape)}".encode())
        take(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            take(str(key).encode())
            _feed(take, value[key])
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _feed(take, entry)
    else:
        take(repr(value).encode())


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _settled(entry) for key, entry in value.items() if key not in _VOLATILE}
    return [_settled(entry) for entry in value] if isinstance(value, list) else value


def prepare(place: Path, short: bool) -> dict[str, Task]:
    """Write data, configs and trained networks below `place`, and return the tasks by name.

    Args:
        place: an empty folder.
        short: smaller ones, for a test in seconds.
    """
    data, patients = place / "data", place / "patients"
    _do(place, "phantom", data, "--videos", 4, "--frames", 4, "--clips", 2, "--size", "96x64", "--workers", 1)
    _do(
        place,
        *("phantom", patients, "--layout", "dsad", "--videos", 12, "--frames", 1, "--size", "64x48", "--workers", 1),
    )
    for name, content in (("tiny", TRAIN), ("tiny_generator", GENERATOR)):
        write_json(place / f"{name}.json", content)
    frames = place / "frames"
    frames.mkdir()
    for path in sorted(data.glob("*/*/*_endo.png")):
        (frames / f"{path.parent.name}_{path.name}").write_bytes(path.read_bytes())
    video = _video(place / "frames.mp4", sorted(frames.iterdir()))
    train = _train(place, data, epochs=2 if short else 4)
    generate = _generate(place, data, count=8 if short else 24)
    trained = place / "trained"
    for ended in (train.start(trained), run(_words(_generator(place, data, trained)), trained)):
        assert ended.status == 0, (place / "trained.log").read_text(encoding="utf-8")
    predict = Task(
        "predict",
        lambda out: _words(
            [
                *("predict", frames, "--bundle", trained / "run", "--out", out / "results", "--device", "cpu"),
                *("--write", "labels,overlay,nifti,report", "--resume"),
            ]
        ),
        ("results/labels/*.png", "results/overlay/*", "results/frames.csv"),
    )
    predict_video = Task(
        "predict_video",
        lambda out: _words(
            [
                *("predict", video, "--bundle", trained / "run", "--out", out / "results", "--device", "cpu"),
                *("--write", "labels,overlay,report", "--resume"),
            ]
        ),
        ("results/labels/*.png", "results/overlay.mp4", "results/frames.csv"),
    )
    tasks = [train, _table(place, data, short), _stream(place, patients, short), generate, predict, predict_video]
    return {task.name: task for task in tasks}


def _video(path: Path, frames: Sequence[Path]) -> Path:
    """Write pictures of one size as a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = Image.open(frames[0]).size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(Image.open(frame).convert("RGB"))))
        container.mux(stream.encode(None))
    return path


def _do(place: Path, *words: object) -> None:
    ended = run(_words(words), place / "prepared")
    assert ended.status == 0, (place / "prepared.log").read_text(encoding="utf-8")


def _words(words: Iterable[object]) -> list[str]:
    return [str(word) for word in words]


def _train(place: Path, data: Path, epochs: int) -> Task:
    configs = [CONTRAST / "configs" / "train.json", CONTRAST / "configs" / "phantom.json", place / "tiny.json"]
    return Task(
        "train",
        lambda out: _words(
            [
                *("run", *configs, f"epochs={epochs}", "resume=auto", f"cache_dir={out / 'cache'}"),
                *("--data", data, "--out", out / "run"),
            ]
        ),
        ("run/models/model.pt", "run/models/checkpoint.pt", "run/history.json", "run/budget.json"),
    )


def _generator(place: Path, data: Path, trained: Path, *more: object) -> Sequence[object]:
    configs = [REPLAY / "configs" / name for name in ("train.json", "phantom.json")]
    overlays = [REPLAY / "configs" / "generate.json"] if more else []
    return [
        *("run", *configs, *overlays, place / "tiny_generator.json", f"cache_dir={trained / 'cache'}", *more),
        *("--data", data, "--out", trained / "generator"),
    ]


def _generate(place: Path, data: Path, count: int) -> Task:
    drawing = ["steps=3", "generate_batch_size=2", f"count={count}"]
    return Task(
        "generate",
        lambda out: _words(_generator(place, data, place / "trained", *drawing, f"synthetic_dir={out / 'set'}")),
        ("set/manifest.json", "set/images/*/*.png"),
    )


def _table(place: Path, data: Path, short: bool) -> Task:
    rows = {"supervised": {"overlays": ["supervised.json"]}, "dcl": {"overlays": ["dcl.json"]}}
    split = "$data.split_by_video(@datalist, (0.5, 0.25, 0.25), seed=0)"
    table = {
        "name": "tiny",
        "bundle": str(CONTRAST),
        "configs": ["train.json", "phantom.json"],
        "settings": {**TRAIN, "split_def": split, "epochs": 1 if short else 2},
        "rows": {"dcl": rows["dcl"]} if short else rows,
        "budgets": [0.5],
    }
    del table["settings"]["budget"]
    path = place / "tiny.yaml"
    path.write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    return Task(
        "table",
        lambda out: _words(["table", path, "--data", data, "--out", out / "run", "--resume"]),
        ("run/results.json", "run/cells/*/*/models/model.pt", "run/cells/*/*/results.json", "run/cells/*/*/frames.csv"),
        ("all", "runner", "cell"),
        lambda out: {"LAP_MONAI_CACHE": str(out / "cache")},
    )


def _stream(place: Path, data: Path, short: bool) -> Task:
    stream = {
        "name": "two",
        "label_space": "dsad_11",
        "protocol": "one_organ_per_frame",
        "split": [0.5, 0.25, 0.25],
        "steps": [["liver", "stomach"], ["colon"]],
    }
    ddcl = {"memory_size": 50, "anchors": 64, "embedding_dim": 8, "synthetic_rows": EVERY_IMAGE}
    study = {
        "name": "tiny",
        "bundle": str(STEPS),
        "configs": ["tiny_steps.json"],
        "generator": {
            "bundle": str(REPLAY),
            "settings": GENERATOR,
            "sampling": {"count": 6, "steps": 3},
            "audit": {"level": 0.1},
        },
        "methods": {"finetune": None, "ddcl_expert": {"settings": ddcl}},
    }
    steps = {**NETWORK, "architecture#features": FEATURES, "epochs": 1 if short else 2, "real_per_batch": 4}
    write_json(place / "tiny_steps.json", steps)
    for name, content in (("two", stream), ("study", study)):
        (place / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    methods = "finetune" if short else "ddcl_expert"
    synthetic = (
        () if short else ("run/shared/synthetic_*/set/images/*/*.png", "run/shared/synthetic_*/set/manifest.json")
    )
    return Task(
        "stream",
        lambda out: _words(
            [
                *("stream", place / "two.yaml", "--study", place / "study.yaml", "--data", data),
                *("--out", out / "run", "--methods", methods, "--resume"),
            ]
        ),
        ("run/results.json", "run/cells/*/*/*/models/model.pt", "run/shared/*/models/model.pt", *synthetic),
        ("all", "runner", "cell"),
        lambda out: {"LAP_MONAI_CACHE": str(out / "cache")},
    )
