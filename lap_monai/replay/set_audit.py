"""From images that a generator drew to a set that may be kept: audited, filtered, labelled and measured."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lap_monai.checks import UserError
from lap_monai.data import Row, fingerprint, row_id
from lap_monai.files import write_json
from lap_monai.keys import VIDEO
from lap_monai.replay.audit import AuditResult, MemorisationAudit, null_limit
from lap_monai.replay.colour import ColourModel
from lap_monai.replay.frames import CachedFrames, Frames, Pixels
from lap_monai.replay.near_duplicates import near_duplicates
from lap_monai.replay.planted import plant_copies
from lap_monai.replay.quality import kid, ms_ssim_diversity, precision_recall
from lap_monai.replay.selection import select_balanced
from lap_monai.replay.set_frames import SetFrames
from lap_monai.replay.synthetic_set import SyntheticSet
from lap_monai.replay.teacher import Teacher, confidence
from lap_monai.replay.teacher_labels import TOP, TeacherAnswers, label_images, remove_teacher_labels

#: What an image may be dropped for here, in the order in which the filters look.
MEMORISED_PIXELS, MEMORISED_FEATURES = "memorised: pixels", "memorised: features"
COLOUR, CONFIDENCE, DUPLICATE, BALANCE = "colour or exposure", "teacher unsure", "near-duplicate", "class balance"
REASONS = (MEMORISED_PIXELS, MEMORISED_FEATURES, COLOUR, CONFIDENCE, DUPLICATE, BALANCE)

FILE_NAME = "audit.json"

_NEIGHBOUR = 3  # of precision and recall
_PLANTED = 12  # training frames of which copies are planted
_SHOWN = 24  # images in a report's grid
_PAIRS = 12  # pairs of neighbours in a report


@dataclass(frozen=True, eq=False)
class Neighbours:
    """An image and the training frame nearest to it in aligned pixels."""

    image: int
    frame: str  #: name of the training frame
    pixels: Pixels
    frame_pixels: Pixels
    distance: float
    flagged: bool


@dataclass(frozen=True, eq=False)
class AuditOutcome:
    """What an audit leaves for a report."""

    results: dict[str, Any]  #: what `audit.json` holds
    samples: list[tuple[int, Pixels]]  #: kept images, evenly spread over the set
    neighbours: list[Neighbours]  #: the images nearest to a training frame, nearest first


class SetAudit:
    """Judge a synthetic set against real frames, once; `run` does it.

    Each filter's limit is what all but `level` of the held-out patients' real frames meet, so an image stays if it
    could be a frame of a new patient: not nearer to a training frame than those are (`MemorisationAudit`), not odder in
    colour, no harder for the teacher. Of near-duplicates the surer stays; of what is left, `target_count` images are
    chosen so that every class has its share. Scores, reasons and the audit go into the manifest, the teacher's label
    maps and probabilities beside the images that stay.

    Where the images as a whole are much less like the training frames than new patients' frames are (KID), it warns.

    A second run takes back what an earlier one decided. An interrupted one leaves the manifest as it was.

    Args:
        synthetic: folder of the set.
        training: rows of the frames that its generator learned from.
        held_out: rows of frames of other patients.
        teacher: network that labels, judges and compares.
        classes: names of its classes.
        output_dir: where `audit.json` goes. Its report shows training frames: keep it out of the set's folder, which
            outlives them.
        cache_dir: of decoded frames, see `FrameCache.build`.
        level: share of new patients' frames that each filter may refuse.
        target_count: how many images to keep; None keeps all that pass.
        seed: of what is drawn for the measures.

    Raises:
        UserError: if there is no set or it is empty, its generator says that it learned from other frames, training and
            held-out patients overlap, or the held-out frames make no null.
    """

    def __init__(
        self,
        synthetic: str | Path,
        training: Sequence[Row],
        held_out: Sequence[Row],
        teacher: Teacher,
        classes: Sequence[str],
        output_dir: str | Path,
        cache_dir: str | Path | None = None,
        level: float = 0.01,
        target_count: int | None = None,
        seed: int = 0,
    ) -> None:
        self.synthetic = SyntheticSet.open(synthetic)
        self.synthetic.keep(REASONS)
        if not self.synthetic.kept:
            raise UserError(f"The synthetic set {str(synthetic)!r} holds no image to audit; generate some first.")
        common = {row[VIDEO] for row in training} & {row[VIDEO] for row in held_out}
        if common:
            raise UserError(
                f"Patient {min(common)} is among the training and the held-out frames; the audit's null needs others."
            )
        learned_from = self.synthetic.generator.get("frames")
        if learned_from is not None and learned_from != fingerprint(training):
            raise UserError(
                f"The generator of the synthetic set {str(synthetic)!r} learned from other frames than these "
                f"{len(training)}: give dataset_dir, split, seed and training_part of its training."
            )
        if len(training) < 2:
            raise UserError("The generator learned from a single frame, of which all it makes is a copy; give it more.")
        # Too small a null is told before anything is labelled.
        null_limit(np.zeros(len(held_out)), [str(row[VIDEO]) for row in held_out], level)
        self.rows, self.held_out_rows = list(training), list(held_out)
        self.teacher, self.classes = teacher, tuple(classes)
        self.output_dir, self.cache_dir = Path(output_dir), cache_dir
        self.level, self.target_count, self.seed = level, target_count, seed

    def run(self) -> AuditOutcome:
        """Audit, filter, label, measure; write manifest, labels and `audit.json`."""
        indices = [image.index for image in self.synthetic.kept]
        images = SetFrames(self.synthetic, indices)
        answers = label_images(self.synthetic, indices, self.teacher, len(self.classes))
        size = self.synthetic.frame_size
        training, held_out = (CachedFrames(rows, size, self.cache_dir) for rows in (self.rows, self.held_out_rows))
        patients = [str(row[VIDEO]) for row in held_out.rows]
        audit = MemorisationAudit(training, held_out, patients, self.teacher.features, self.level)
        features = self.teacher.features(images)
        found = audit(images, features)

        verdicts = _Verdicts(len(images))
        verdicts.refuse(MEMORISED_PIXELS, found.near_in_pixels, audit.pixel_limit)
        verdicts.refuse(MEMORISED_FEATURES, found.near_in_features, audit.feature_limit)
        verdicts.score("pixel_distance", found.pixel.distance)
        if found.feature is not None:
            verdicts.score("feature_distance", found.feature.distance)
        self._refuse_odd_ones(verdicts, images, answers, training, held_out)
        self._refuse_repetitions(verdicts, images, answers, audit, features)
        results: dict[str, Any] = {
            "set": self.synthetic.folder.name,
            "generator": self.synthetic.generator,
            "sampler": self.synthetic.sampler,
            "images": len(images),
            "kept": len(verdicts.passed),
            "memorisation": {
                **audit.describe(),
                "flagged": int(found.flagged.sum()),
                "share": found.share,
                "planted_caught": self._planted(audit, training),
            },
            "filters": verdicts.summary(),
            "labels": self._labels(answers, indices, verdicts.passed),
            "quality": self._quality(images, features, verdicts.passed, training, held_out),
        }
        self._record(indices, verdicts, results)
        _warn_if_unlike(results["quality"])
        samples = [verdicts.passed[i] for i in evenly(len(verdicts.passed), _SHOWN)]
        nearest = np.argsort(found.pixel.distance, kind="stable")[:_PAIRS].tolist()
        return AuditOutcome(
            results,
            [(indices[place], images[place]) for place in samples],
            [self._neighbours(place, indices, images, found, training) for place in nearest],
        )

    def _refuse_odd_ones(
        self, verdicts: _Verdicts, images: Frames, answers: TeacherAnswers, training: Frames, held_out: Frames
    ) -> None:
        """Colours unlike the training frames', and images of which the teacher makes little."""
        colours = ColourModel(training)
        distances = colours.distance(images)
        limit = float(np.quantile(colours.distance(held_out), 1 - self.level))
        verdicts.score("colour_distance", distances)
        verdicts.refuse(COLOUR, distances > limit, limit)

        sure_of_real = [float(confidence(said[None])) for said in self.teacher.each(held_out, "teacher, real frames")]
        limit = float(np.quantile(sure_of_real, self.level))
        verdicts.score("confidence", answers.confidence)
        verdicts.refuse(CONFIDENCE, answers.confidence < limit, limit)

    def _refuse_repetitions(
        self,
        verdicts: _Verdicts,
        images: Frames,
        answers: TeacherAnswers,
        audit: MemorisationAudit,
        features: NDArray[np.float32],
    ) -> None:
        """Of what passed so far, near-duplicates, then what the classes' balance can spare."""
        surest_first = sorted(verdicts.passed, key=lambda place: (-answers.confidence[place], place))
        repeated = near_duplicates(images, surest_first, audit.points(features), audit.feature_limit or 0.0)
        verdicts.refuse(DUPLICATE, np.isin(np.arange(len(images)), list(repeated)), audit.feature_limit)
        if self.target_count is not None:
            pool = np.array(verdicts.passed, np.int64)
            spare = np.setdiff1d(pool, pool[select_balanced(answers.pixels[pool], self.target_count)])
            verdicts.refuse(BALANCE, np.isin(np.arange(len(images)), spare))

    def _neighbours(
        self, place: int, indices: list[int], images: Frames, found: AuditResult, training: CachedFrames
    ) -> Neighbours:
        frame = int(found.pixel.index[place])
        return Neighbours(
            image=indices[place],
            frame=row_id(training.rows[frame]),
            pixels=images[place],
            frame_pixels=training[frame],
            distance=float(found.pixel.distance[place]),
            flagged=bool(found.flagged[place]),
        )

    def _planted(self, audit: MemorisationAudit, training: Frames) -> dict[str, float]:
        """Share of planted copies that the audit catches, by disguise: what its silence is worth."""
        rng = np.random.default_rng(self.seed)
        planted = [plant_copies(training[place], rng) for place in evenly(len(training), _PLANTED)]
        return {name: float(audit([copies[name] for copies in planted]).flagged.mean()) for name in planted[0]}

    def _labels(self, answers: TeacherAnswers, indices: list[int], passed: list[int]) -> dict[str, Any]:
        """What the manifest says about the label files."""

        def by_class(values: NDArray[Any]) -> dict[str, int]:
            return dict(zip(self.classes, values.tolist(), strict=True))

        return {
            "classes": list(self.classes),
            "top": min(TOP, len(self.classes)),
            "pixels_before": by_class(answers.pixels.sum(0)),
            "pixels": by_class(answers.pixels[passed].sum(0)),
            "images_with_class": by_class((answers.pixels[passed] > 0).sum(0)),
            "sha256": {str(indices[place]): answers.sha256[place] for place in passed},
        }

    def _quality(
        self, images: SetFrames, features: NDArray[np.float32], passed: list[int], training: Frames, held_out: Frames
    ) -> dict[str, Any]:
        """Measures of all images and of those that passed, and what real frames of new patients reach."""
        real = self.teacher.features(training)
        sets: dict[str, tuple[Frames, NDArray[np.float32]]] = {
            "all": (images, features),
            "kept": (images.part(passed), features[passed]),
            "held_out": (held_out, self.teacher.features(held_out)),
        }
        # Manifolds grow with their sets, so precision and recall compare where all are of one size.
        count = min(len(vectors) for vectors in (real, features, sets["held_out"][1]))
        return {name: self._measures(real, vectors, frames, count) for name, (frames, vectors) in sets.items()}

    def _measures(
        self, real: NDArray[np.float32], vectors: NDArray[np.float32], frames: Frames, count: int
    ) -> dict[str, Any]:
        """Measures of one set; precision and recall of `count` images, or of as many as it has."""
        if min(count, len(vectors)) <= _NEIGHBOUR:
            return {"images": len(vectors)}
        rng = np.random.default_rng(self.seed)
        count = min(count, len(vectors))
        part, some = (rng.choice(len(of), count, replace=False) for of in (real, vectors))
        precision, recall = precision_recall(real[part], vectors[some], _NEIGHBOUR)
        distance = kid(real, vectors, seed=self.seed)
        return {
            "images": len(vectors),
            "kid": distance.mean,
            "kid_std": distance.std,
            "precision": precision,
            "recall": recall,
            "ms_ssim": ms_ssim_diversity(frames, seed=self.seed),
        }

    def _record(self, indices: list[int], verdicts: _Verdicts, results: dict[str, Any]) -> None:
        """Write it all down. Labels go after the manifest that no longer keeps their images."""
        write_json(self.output_dir / FILE_NAME, results)
        for place, index in enumerate(indices):
            self.synthetic.set_scores({index: {name: float(v[place]) for name, v in verdicts.scores.items()}})
            for reason in verdicts.reasons[place]:
                self.synthetic.drop(index, reason)
        self.synthetic.set_audit({key: results[key] for key in ("memorisation", "filters", "labels", "quality")})
        self.synthetic.save()
        for image in self.synthetic.images:
            if image.dropped:
                remove_teacher_labels(self.synthetic, image.index)


def _warn_if_unlike(quality: Mapping[str, Mapping[str, Any]]) -> None:
    """Say so if the images as a whole are not like frames, which no judgement of one image at a time can tell.

    The measure of "like" is what frames of new patients reach; two standard deviations of KID's subsets are noise.
    """
    kept, held_out = quality["kept"], quality["held_out"]
    if "kid" not in kept or "kid" not in held_out:
        return
    noise = math.hypot(kept["kid_std"], held_out["kid_std"])
    if kept["kid"] - held_out["kid"] > 2 * noise:
        warnings.warn(
            f"the synthetic images are unlike frames: KID {kept['kid']:.2g} ± {kept['kid_std']:.2g}, frames of new "
            f"patients {held_out['kid']:.2g} ± {held_out['kid_std']:.2g}; train their generator for longer.",
            stacklevel=3,
        )


class _Verdicts:
    """What was measured of each of N images, and what speaks against it."""

    def __init__(self, count: int) -> None:
        self.reasons: list[list[str]] = [[] for _ in range(count)]
        self.scores: dict[str, NDArray[np.float64]] = {}
        self.limits: dict[str, float | None] = {}

    def score(self, name: str, values: NDArray[np.float64]) -> None:
        self.scores[name] = values

    def refuse(self, reason: str, which: NDArray[np.bool_], limit: float | None = None) -> None:
        self.limits[reason] = limit
        for place in np.flatnonzero(which):
            self.reasons[place].append(reason)

    @property
    def passed(self) -> list[int]:
        """Positions of the images that nothing speaks against."""
        return [place for place, reasons in enumerate(self.reasons) if not reasons]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Per reason, how many images it speaks against, and its limit."""
        return {
            reason: {"dropped": sum(reason in reasons for reasons in self.reasons), "limit": limit}
            for reason, limit in self.limits.items()
        }


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` positions, evenly spread over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []
