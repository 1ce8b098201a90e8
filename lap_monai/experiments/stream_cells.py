"""The cells of a stream: which bundle runs take a method through its steps, and what each of them is given.

Step 0, the steps' experts and their synthetic images do not depend on a method; methods with equal configs share them,
in folders of `shared/` that are named by what their outcome depends on. A method gets no more than its merged config
refers to: synthetic images, an expert, features or real frames that earlier steps left. So what a method declares, and
only that, outlives a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.bundle import ReferenceResolver

from lap_monai.checkpoints import previous_checkpoint
from lap_monai.checks import UserError
from lap_monai.data import StepData
from lap_monai.experiments.config_targets import check_targets
from lap_monai.experiments.layers import Layer, merge_layers
from lap_monai.experiments.step import EVALUATE, Step, mattering
from lap_monai.experiments.stream_files import StreamFiles
from lap_monai.experiments.stream_replay import ReplayRuns, set_folder
from lap_monai.experiments.stream_step import (
    EVALUATE_SETTINGS,
    EXEMPLARS,
    MEMORY,
    MODEL,
    STUDY_SETTINGS,
    TRAIN_SETTINGS,
    StreamStep,
    frames_identity,
)
from lap_monai.experiments.stream_study import Method, StreamStudy
from lap_monai.experiments.study import content_hash

#: Config ids by which a training takes what earlier steps left.
INPUTS = (
    *("previous_checkpoint", "synthetic_sets", "expert_checkpoint", "earlier_checkpoints"),
    *("previous_memory", "previous_exemplars"),
)


@dataclass(frozen=True)
class StreamCell:
    """One method with one seed on its way through a stream.

    Args:
        method: the method.
        seed: of its trainings.
        folder: where its own runs lie.
        steps: all runs, shared ones among them, in the order in which they run.
    """

    method: Method
    seed: int
    folder: Path
    steps: tuple[StreamStep, ...]

    @property
    def name(self) -> str:
        """`<method>/seed_<seed>`."""
        return f"{self.method.name}/seed_{self.seed}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """What cells that take about as long have in common, closest first."""
        return (self.method.name, "")

    @property
    def spare(self) -> tuple[Path, ...]:
        """Files of no use once all steps are done: what trainings would resume from."""
        last = [step.folder / "models" / "checkpoint.pt" for step in self.steps]
        return (*last, *map(previous_checkpoint, last))

    @property
    def evaluations(self) -> dict[int, StreamStep]:
        """Step of the stream → the run that scores it."""
        return {step.number: step for step in self.steps if step.name == EVALUATE}

    def until(self, number: int) -> StreamCell:
        """Return the cell without what comes after a step of the stream, if all of it is wanted then."""
        return replace(self, steps=tuple(step for step in self.steps if step.number <= number))

    def training(self, number: int) -> StreamStep:
        """Return the run that trains the network of a step."""
        folder = self.evaluations[number].folder
        return next(step for step in self.steps if step.folder == folder and step.name == "train")


def build_stream_cells(
    study: StreamStudy, files: StreamFiles, methods: Sequence[Method], seeds: Sequence[int]
) -> list[StreamCell]:
    """Return a cell for each method and seed, all methods with the first seed first.

    Raises:
        UserError: if an override or overlay does not fit the bundles.
    """
    builders = [_MethodBuilder(study, files, method) for method in methods]
    return [builder.cell(seed) for seed in seeds for builder in builders]


class _MethodBuilder:
    """Merges a method's configs once, and makes its cells."""

    def __init__(self, study: StreamStudy, files: StreamFiles, method: Method) -> None:
        self.study, self.files, self.method = study, files, method
        self.shared = files.run_dir / "shared"
        self.replay = ReplayRuns(study, self.shared)
        config = self._merged(method.overlays, method.settings)
        self.needs = used_inputs(config)
        heads = [config["head"], self._merged(method.base, {})["head"]]
        if not method.joint and heads[0] != heads[1]:
            raise UserError(
                f"method {method.name!r} has the head {heads[0]!r} and its step 0 {heads[1]!r}; name the overlays of "
                "step 0 under `base`, such as sigmoid.json, or drop them."
            )
        self.last = len(files.steps) - 1

    def cell(self, seed: int) -> StreamCell:
        folder = self.files.run_dir / "cells" / self.method.name / f"seed_{seed}"
        steps = self._joint(seed, folder) if self.method.joint else self._through(seed, folder)
        once = {step.state_file: step for step in steps}  # an expert may judge synthetic images as well
        return StreamCell(self.method, seed, folder, tuple(once.values()))

    # --- one run after the other --------------------------------------------------------------------------------------

    def _joint(self, seed: int, folder: Path) -> Iterator[StreamStep]:
        training = self._training(folder, self.method.overlays, self.method.settings, self.last, seed, {}, ())
        yield training
        yield self._evaluation(training, self.method.overlays, self.method.settings)

    def _through(self, seed: int, folder: Path) -> Iterator[StreamStep]:
        base = self._shared_training("base", self.method.base, 0, seed)
        yield base
        yield self._evaluation(base, self.method.base, {})
        trained, sets = [base], list[StreamStep]()
        kept = None
        if "previous_exemplars" in self.needs:
            kept = self._first_exemplars(folder, seed)
            yield kept
        for number in range(1, self.last + 1):
            if "synthetic_sets" in self.needs:
                judge = base if number == 1 else self._expert(number - 1, seed)
                *made, audit = self._synthetic_set(number - 1, seed, judge)
                yield from (judge, *made, audit)
                sets.append(audit)
            uses: list[StreamStep] = [trained[-1], *sets]
            inputs: dict[str, Any] = {"previous_checkpoint": str(trained[-1].folder / MODEL)}
            if sets:
                inputs["synthetic_sets"] = [str(set_folder(audit)) for audit in sets]
            if "expert_checkpoint" in self.needs:
                expert = self._expert(number, seed)
                yield expert
                uses.append(expert)
                inputs["expert_checkpoint"] = str(expert.folder / MODEL)
            if "earlier_checkpoints" in self.needs:
                uses += trained[:-1]
                inputs["earlier_checkpoints"] = [str(step.folder / MODEL) for step in trained]
            if "previous_memory" in self.needs and number > 1:
                inputs["previous_memory"] = str(trained[-1].folder / MEMORY)
            if kept is not None:
                uses.append(kept)
                source = kept if number == 1 else trained[-1]
                inputs["previous_exemplars"] = str(source.folder / EXEMPLARS)
            overlays, settings = self.method.overlays, self.method.settings
            training = self._training(folder / f"step_{number}", overlays, settings, number, seed, inputs, uses)
            yield training
            yield self._evaluation(training, overlays, settings)
            trained.append(training)

    def _expert(self, number: int, seed: int) -> StreamStep:
        expert = self.study.steps.config("expert.json")
        return self._shared_training("expert", (*self.method.base, expert), number, seed)

    def _first_exemplars(self, folder: Path, seed: int) -> StreamStep:
        """The frames of step 0 that a method keeps: the end of its run without the training, which is shared."""
        overlays, settings = self.method.overlays, self.method.settings
        run = self._merged(overlays, settings)["run"]
        made = self._training(folder / "step_0", overlays, {**settings, "run": run[1:]}, 0, seed, {}, ())
        return replace(made, name="exemplars")

    def _synthetic_set(self, number: int, seed: int, judge: StreamStep) -> tuple[StreamStep, ...]:
        step, file = self._frames(number)
        place = {"step_datalist": str(file), "cache_dir": str(self._cache(file)), "seed": seed}
        return self.replay.runs(step, place, judge, self._merged(self.method.base, {}))

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _shared_training(self, what: str, overlays: Sequence[Path], number: int, seed: int) -> StreamStep:
        made = self._training(self.shared, overlays, {}, number, seed, {}, (), method=what)
        return self._moved(made, self.shared / f"{what}_{number}_seed_{seed}_{made.fingerprint}")

    def _training(
        self,
        folder: Path,
        overlays: Sequence[Path],
        settings: Mapping[str, Any],
        number: int,
        seed: int,
        inputs: Mapping[str, Any],
        uses: Sequence[Step],
        method: str | None = None,
    ) -> StreamStep:
        step, file = self._frames(number)
        config = self._merged(overlays, settings)
        print_of = content_hash(
            {
                "config": mattering(config),
                "seed": seed,
                "frames": frames_identity(step, (*step.train, *step.val)),
                "uses": [used.fingerprint for used in uses],
            }
        )
        own = {
            **settings,
            **inputs,
            "step_datalist": str(file),
            "cache_dir": str(self._cache(file)),
            "seed": seed,
            "method": method or self.method.name,
            "resume": "auto",
        }
        layers = self._layers(folder, overlays, TRAIN_SETTINGS)
        written = {STUDY_SETTINGS: self.study.steps.settings, TRAIN_SETTINGS: own}
        return StreamStep("train", folder, layers, written, print_of, number)

    def _evaluation(self, training: StreamStep, overlays: Sequence[Path], settings: Mapping[str, Any]) -> StreamStep:
        evaluate = self.study.steps.config("evaluate.json")
        step = self._frames(training.number)[0]
        config = self._merged((*overlays, evaluate), settings)
        frames = frames_identity(step, step.test)
        print_of = content_hash({"config": mattering(config), "training": training.fingerprint, "frames": frames})
        trained = training.settings[TRAIN_SETTINGS]
        own = {key: value for key, value in trained.items() if key not in ("resume", "synthetic_sets")}
        own["cache_dir"] = str(self._cache(Path("test")))  # all steps are scored on the same frames
        layers = (*self._layers(training.folder, overlays, EVALUATE_SETTINGS), evaluate)
        written = {STUDY_SETTINGS: self.study.steps.settings, EVALUATE_SETTINGS: own}
        return StreamStep(EVALUATE, training.folder, layers, written, print_of, training.number)

    # --- configs ------------------------------------------------------------------------------------------------------

    def _layers(self, folder: Path, overlays: Sequence[Path], own: str) -> tuple[Path, ...]:
        recipe = self.study.steps
        return (recipe.config("train.json"), *recipe.configs, folder / STUDY_SETTINGS, *overlays, folder / own)

    def _merged(self, overlays: Sequence[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
        recipe = self.study.steps
        of_study: Layer = (f"the settings of study {self.study.name!r}", recipe.settings)
        own: Layer = (f"the settings of method {self.method.name!r}", settings)
        config = merge_layers([recipe.config("train.json"), *recipe.configs, of_study, *overlays, own])
        check_targets(config)
        return config

    def _frames(self, number: int) -> tuple[StepData, Path]:
        if self.method.joint:
            return self.files.joint, self.files.joint_file
        return self.files.steps[number], self.files.step_file(number)

    def _cache(self, file: Path) -> Path:
        return self.files.run_dir / "frames" / file.stem

    @staticmethod
    def _moved(step: StreamStep, folder: Path) -> StreamStep:
        configs = tuple(folder / path.name if path.parent == step.folder else path for path in step.configs)
        return replace(step, folder=folder, configs=configs)


def used_inputs(config: Mapping[str, Any]) -> set[str]:
    """Return which of `INPUTS` a merged config refers to, other than to note it among its settings."""
    texts = _strings({key: value for key, value in config.items() if key != "settings" and not key.startswith("_desc")})
    found = {name for text in texts for name in ReferenceResolver.match_refs_pattern(text)}
    return {name for name in INPUTS if name in found}


def _strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, (Mapping, list)):
        for value in config.values() if isinstance(config, Mapping) else config:
            yield from _strings(value)
