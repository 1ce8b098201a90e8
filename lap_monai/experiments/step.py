"""What a runner runs: bundle runs one after the other, each identified by what its outcome depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lap_monai.experiments.layers import Layer, merge_layers
from lap_monai.experiments.table import AXES

#: Name of a step that scores what was trained.
EVALUATE = "evaluate"

#: Config ids that do not change what a training learns, and those that every cell states by itself.
_NO_MATTER = (
    *("bundle_root", "ckpt_dir", "output_dir", "dataset_dir", "phases_dir", "cache_dir", "resume", "num_workers"),
    *("rank", "device", "method", "imports", "tracking_uri", "experiment_name"),
    *(*AXES, "budget_unit"),
)


@dataclass(frozen=True)
class Step:
    """One process: a run of a bundle with files in and files out.

    Args:
        name: the stage's, or `EVALUATE`; its state, log and settings lie under it in the folder.
        folder: where it leaves its files.
        configs: base config and overlays in their order, the settings files among them.
        settings: what is written into the settings files, by their names.
        fingerprint: equal for steps whose outcome would be equal.
    """

    name: str
    folder: Path
    configs: tuple[Path, ...]
    settings: Mapping[str, Mapping[str, Any]]
    fingerprint: str

    def merged(self) -> dict[str, Any]:
        """Return the merged config of the step, whether or not its settings lie in their files yet."""
        own: dict[Path, Layer] = {
            self.folder / name: (f"the settings in {name} of {str(self.folder)!r}", content)
            for name, content in self.settings.items()
        }
        return merge_layers([own.get(path, path) for path in self.configs])

    @property
    def state_file(self) -> Path:
        """Where the step's state is kept."""
        return self.folder / f"state_{self.name}.json"


class Work(Protocol):
    """A chain of steps that a runner makes, some of which other chains may share: a cell of a table, for example."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def folder(self) -> Path:
        """Where what is its own lies; shared steps have folders elsewhere."""

    @property
    def steps(self) -> Sequence[Step]:
        """In the order in which they run."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What works that take about as long have in common, closest first."""

    @property
    def spare(self) -> Sequence[Path]:
        """Files of no use once all steps are done."""


def mattering(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a merged config without what cannot change an outcome, and without what steps state by themselves."""
    return {key: _undescribed(value) for key, value in config.items() if key not in _NO_MATTER and not _described(key)}


def _undescribed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _undescribed(entry) for key, entry in value.items() if not _described(key)}
    return [_undescribed(entry) for entry in value] if isinstance(value, list) else value


def _described(key: str) -> bool:
    return key.startswith("_desc")
