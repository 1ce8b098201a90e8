"""The runs that turn a step's frames into synthetic images: a generator's training, its drawing, and the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lap_monai.data import StepData
from lap_monai.experiments.config_targets import check_targets
from lap_monai.experiments.layers import Layer, merge_layers
from lap_monai.experiments.step import Step, mattering
from lap_monai.experiments.stream_step import MODEL, STUDY_SETTINGS, TRAIN_SETTINGS, StreamStep, frames_identity
from lap_monai.experiments.stream_study import StreamStudy
from lap_monai.experiments.study import content_hash
from lap_monai.provenance import rows_fingerprint

#: Files of a run's folder with its own settings.
GENERATE_SETTINGS, AUDIT_SETTINGS = "generate_step.json", "audit_settings.json"

#: Folder of the synthetic set beside the report of its audit, which shows training frames.
SET = "set"

#: What an audit has to know of the network that judges: how it is made and applied.
_OF_JUDGE = ("architecture", "frame_size", "window", "overlap", "head", "device")


class ReplayRuns:
    """Makes the runs of one step's synthetic set. They depend on step and seed, and on no method but for the judge.

    Args:
        study: how generators are trained, drawn from and audited.
        folder: of shared runs.
    """

    def __init__(self, study: StreamStudy, folder: Path) -> None:
        self.study, self.recipe, self.folder = study, study.generator, folder
        self._trained = (self.recipe.config("train.json"), *self.recipe.configs, self.recipe.config("step.json"))
        self._settings: Layer = ("the settings of the generator", self.recipe.settings)

    def runs(
        self, step: StepData, place: Mapping[str, Any], judge: StreamStep, judge_config: Mapping[str, Any]
    ) -> tuple[StreamStep, StreamStep, StreamStep]:
        """Return the training of the generator, the drawing of its images, and their audit.

        Args:
            step: whose frames the generator learns.
            place: the settings that all three share: step file, cache, seed.
            judge: training of the network of the step's new classes that judges and labels the images.
            judge_config: its merged config.

        Raises:
            UserError: if the study's settings do not fit the bundle.
        """
        generator = self._generator(step, place)
        draw = self.recipe.config("generate.json")
        audits = (self.recipe.config("audit.json"), self.recipe.config("audit_step.json"))
        drawing: Layer = ("the sampling of the generator", self.study.sampling)
        auditing: Layer = ("the audit of the generator", self.study.audit)
        print_of = content_hash(
            {
                "generator": generator.fingerprint,
                "generate": self._mattering([*self._trained, self._settings, draw, drawing]),
                "judge": judge.fingerprint,
                "audit": self._mattering([*audits, auditing]),
                "held_out": rows_fingerprint([*step.val, *step.test]),
            }
        )
        folder = self.folder / f"synthetic_{step.number}_seed_{place['seed']}_{print_of}"
        drawn = {
            **place,
            "synthetic_dir": str(folder / SET),
            "generator_checkpoint": str(generator.folder / MODEL),
            **self.study.sampling,
        }
        judged = {
            **place,
            **{key: judge_config[key] for key in _OF_JUDGE},
            "teacher_checkpoint": str(judge.folder / MODEL),
            "synthetic_dir": str(folder / SET),
            **self.study.audit,
        }
        layers = (*self._trained, folder / STUDY_SETTINGS, draw, folder / GENERATE_SETTINGS)
        written = {STUDY_SETTINGS: self.recipe.settings, GENERATE_SETTINGS: drawn}
        return (
            generator,
            StreamStep("generate", folder, layers, written, print_of, step.number),
            StreamStep(
                "audit", folder, (*audits, folder / AUDIT_SETTINGS), {AUDIT_SETTINGS: judged}, print_of, step.number
            ),
        )

    def _generator(self, step: StepData, place: Mapping[str, Any]) -> StreamStep:
        config = self._mattering([*self._trained, self._settings])
        frames = frames_identity(step, step.train)
        print_of = content_hash({"config": config, "seed": place["seed"], "frames": frames})
        folder = self.folder / f"generator_{step.number}_seed_{place['seed']}_{print_of}"
        layers = (*self._trained, folder / STUDY_SETTINGS, folder / TRAIN_SETTINGS)
        written = {STUDY_SETTINGS: self.recipe.settings, TRAIN_SETTINGS: {**place, "resume": "auto"}}
        return StreamStep("train", folder, layers, written, print_of, step.number)

    @staticmethod
    def _mattering(layers: Sequence[Layer]) -> dict[str, Any]:
        config = merge_layers(layers)
        check_targets(config)
        return mattering(config)


def set_folder(audit: Step) -> Path:
    """Return the folder of the synthetic set that a run audited."""
    return audit.folder / SET
