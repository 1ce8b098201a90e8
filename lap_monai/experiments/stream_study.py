"""What a study of incremental methods declares: methods, seeds, streams, and how their networks are trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lap_monai.checks import UserError, require_choice
from lap_monai.experiments.declaration import Declaration
from lap_monai.experiments.stream_statistics import JOINT
from lap_monai.experiments.strict_yaml import load_yaml

#: Config ids that the runner decides.
RESERVED = (
    *("step_datalist", "previous_checkpoint", "synthetic_sets", "expert_checkpoint", "earlier_checkpoints"),
    *("previous_memory", "previous_exemplars", "cache_dir", "seed", "method", "resume"),
    *("output_dir", "ckpt_dir", "dataset_dir"),
)


@dataclass(frozen=True)
class Method:
    """A method: its name in files and results, what people call it, and the overlays that make it.

    Args:
        name: of its folder.
        label: in reports.
        overlays: of every step but the first.
        settings: overrides of every step but the first, config id → value.
        base: overlays of step 0, which methods with equal ones share.
    """

    name: str
    label: str
    overlays: tuple[Path, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: tuple[Path, ...] = ()

    @property
    def joint(self) -> bool:
        """Whether it is trained once, on the frames of all steps."""
        return self.name == JOINT


@dataclass(frozen=True)
class Recipe:
    """A bundle, and what all its runs in a study have in common.

    Args:
        bundle: its folder.
        configs: overlays.
        settings: overrides, config id → value.
    """

    bundle: Path
    configs: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, name: str) -> Path:
        """Return a config file of the bundle."""
        return self.bundle / "configs" / name


@dataclass(frozen=True)
class StreamStudy:
    """Methods times streams times seeds.

    Args:
        name: of the study.
        description: what it is for.
        steps: how networks are trained.
        generator: how generators of synthetic images are trained.
        sampling: overrides of what draws the synthetic images.
        audit: overrides of what audits them.
        methods: that may be asked for.
        chosen: names of those that are run unless others are asked for.
        seeds: of the trainings.
        streams: files of streams; empty where the command names one.
        reference: method that the others are compared with first.
        expected_time: in words.
        content: the file as read.
    """

    name: str
    description: str
    steps: Recipe
    generator: Recipe
    sampling: Mapping[str, Any]
    audit: Mapping[str, Any]
    methods: Mapping[str, Method]
    chosen: tuple[str, ...]
    seeds: tuple[int, ...]
    streams: tuple[Path, ...]
    reference: str
    expected_time: str
    content: Mapping[str, Any]

    @property
    def bundle(self) -> Path:
        """The bundle whose runs train and score the networks."""
        return self.steps.bundle

    def choose(self, names: Sequence[str] | None) -> list[Method]:
        """Return the methods of these names, or those that the study runs.

        Raises:
            UserError: if one is unknown, with what may have been meant, or stands twice.
        """
        wanted = list(self.chosen) if names is None else list(names)
        for name in wanted:
            require_choice(name, list(self.methods), "method")
        if len(set(wanted)) < len(wanted):
            raise UserError(f"--methods names {max(wanted, key=wanted.count)!r} twice; name each method once.")
        return [self.methods[name] for name in wanted]


def load_stream_study(path: str | Path) -> StreamStudy:
    """Read and check a study file. Overlays are names in the bundle's `configs` folder or paths beside the file.

    A file with `base: OTHER.yaml` is that other file, beside it, with its own keys in their place.

    Raises:
        UserError: if the file is missing, a key is unknown or stands twice, a value has the wrong form, a config or
            stream file does not exist, or two methods are one.
    """
    path = Path(path)
    return _Reader(path, _with_base(path)).study()


def names_streams(path: str | Path) -> bool:
    """Return whether a file is a study that lists streams, rather than a stream.

    Raises:
        UserError: if it is missing or no YAML mapping.
    """
    return "streams" in load_yaml(path, "stream")


def _with_base(path: Path) -> dict[str, Any]:
    content = load_yaml(path, "study")
    if "base" not in content:
        return content
    other = path.parent / str(content["base"])
    inherited = load_yaml(other, "study")
    if "base" in inherited:
        raise UserError(f"study {str(path)!r}: base {other.name!r} has a base itself; name that one.")
    return {key: value for key, value in {**inherited, **content}.items() if key != "base"}


class _Reader(Declaration):
    """Turns the content of a study file into a `StreamStudy`, and says where it is wrong."""

    what, plural = "study", "studies"

    def study(self) -> StreamStudy:
        known = "name description bundle configs settings generator methods run seeds streams reference expected_time"
        self._keys(self.content, known, "the study", needed="name bundle generator methods")
        bundle = self._bundle_folder(self.content["bundle"], "bundle")
        methods = self._methods(bundle)
        chosen = self._list("run", (str,), "methods", list(methods))
        for name in chosen:
            self._choice(name, list(methods), "method")
        generator = self._generator()
        return StreamStudy(
            name=self._name(self.content["name"], "name"),
            description=" ".join(str(self.content.get("description", "")).split()),
            steps=Recipe(
                bundle,
                self._config_files(self.content.get("configs") or [], "configs", bundle),
                self._overrides(self.content.get("settings"), "settings"),
            ),
            generator=generator,
            sampling=self._overrides(self.content["generator"].get("sampling"), "sampling of the generator"),
            audit=self._overrides(self.content["generator"].get("audit"), "audit of the generator"),
            methods=methods,
            chosen=tuple(chosen),
            seeds=tuple(self._list("seeds", (int,), "whole numbers", [0])),
            streams=tuple(self._stream(name) for name in self._list("streams", (str,), "stream files", [], True)),
            reference=self._choice(str(self.content.get("reference", chosen[0])), chosen, "reference"),
            expected_time=" ".join(str(self.content.get("expected_time", "not stated")).split()),
            content=self.content,
        )

    def _generator(self) -> Recipe:
        declared = self._mapping(self.content["generator"], "generator")
        self._keys(declared, "bundle configs settings sampling audit", "generator", needed="bundle")
        folder = self._bundle_folder(declared["bundle"], "bundle of the generator")
        return Recipe(
            folder,
            self._config_files(declared.get("configs") or [], "configs of the generator", folder),
            self._overrides(declared.get("settings"), "settings of the generator"),
        )

    def _methods(self, bundle: Path) -> dict[str, Method]:
        declared = self._mapping(self.content["methods"], "methods")
        methods = {str(name): self._method(name, entry or {}, bundle) for name, entry in declared.items()}
        made: dict[tuple, str] = {}
        for name, method in methods.items():
            same = made.setdefault((method.overlays, str(sorted(method.settings.items())), method.base), name)
            if same != name:
                self._fail(f"methods {same!r} and {name!r} are the same under two names; drop one")
        return methods

    def _method(self, name: Any, entry: dict[str, Any], bundle: Path) -> Method:
        where = f"method {name!r}"
        self._mapping(entry, where)
        self._keys(entry, "label overlays settings base", where)
        return Method(
            self._name(name, "method"),
            str(entry.get("label", name)),
            self._config_files(entry.get("overlays", [f"{name}.json"]), f"overlays of {where}", bundle),
            self._overrides(entry.get("settings"), f"settings of {where}"),
            self._config_files(entry.get("base") or [], f"base of {where}", bundle),
        )

    def _stream(self, name: str) -> Path:
        path = (self.path.parent / name).resolve()
        if not os.path.isfile(path):
            self._fail(f"streams: no file {name!r} beside the study file, at {str(path)!r}")
        return path

    def _overrides(self, settings: Any, where: str) -> dict[str, Any]:
        checked = self._mapping(settings or {}, where)
        for key in checked:
            if key in RESERVED:
                self._fail(f"{where}: {key!r} is the runner's; drop it")
        return {str(key): value for key, value in checked.items()}
