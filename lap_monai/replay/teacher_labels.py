"""What a teacher says about the images of a synthetic set, kept beside them.

`labels/00000/00000123.png` holds class ids, `probabilities/00000/00000123.npz` the highest probabilities of every pixel
in bytes, for a loss that imitates the teacher softly.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lap_monai.checks import UserError
from lap_monai.files import replacing
from lap_monai.replay.set_frames import SetFrames
from lap_monai.replay.synthetic_set import SyntheticImage, SyntheticSet
from lap_monai.replay.teacher import Teacher, confidence

#: Classes a pixel whose probabilities are kept. Three hold nearly all of a trained network's mass.
TOP = 3

_MOST = 255  # stands for probability 1


@dataclass(frozen=True)
class TeacherAnswers:
    """What a teacher said about N images."""

    confidence: NDArray[np.float64]  #: `(N,)`, see `confidence`
    pixels: NDArray[np.int64]  #: `(N, K)`, of each class in its label map
    sha256: list[dict[str, str]]  #: of the files of each image, `label` and `probabilities`


def label_images(synthetic: SyntheticSet, indices: Sequence[int], teacher: Teacher, num_classes: int) -> TeacherAnswers:
    """Write label maps and probabilities of images, each file whole or not at all.

    Args:
        synthetic: the set.
        indices: of its images.
        teacher: who labels.
        num_classes: K, what it must tell apart.

    Raises:
        UserError: if the teacher tells another number of classes apart, or a file cannot be written.
    """
    sure, pixels, hashes = [], [], []
    for index, probabilities in zip(indices, teacher.each(SetFrames(synthetic, indices), "labelling"), strict=True):
        if len(probabilities) != num_classes:
            raise UserError(
                f"The teacher tells {len(probabilities)} classes apart, the label space has {num_classes}; "
                "set label_space and teacher_checkpoint so that they agree."
            )
        sure.append(float(confidence(probabilities[None])))
        pixels.append(torch.bincount(probabilities.argmax(0).flatten(), minlength=num_classes).numpy())
        hashes.append(write_teacher_labels(synthetic, index, probabilities))
    return TeacherAnswers(np.array(sure), np.stack(pixels), hashes)


def label_file(image: SyntheticImage) -> str:
    """Return where the class ids of an image lie, below the set's folder."""
    return image.file.replace("images/", "labels/", 1)


def probability_file(image: SyntheticImage) -> str:
    """Return where the probabilities of an image lie, below the set's folder."""
    return f"{image.file.replace('images/', 'probabilities/', 1).removesuffix('.png')}.npz"


def write_teacher_labels(synthetic: SyntheticSet, index: int, probabilities: Tensor) -> dict[str, str]:
    """Write what a teacher says about image `index`, each file whole or not at all.

    Args:
        synthetic: the set.
        index: which image.
        probabilities: `(K, H, W)`, K at most 255, of the image's size.

    Returns:
        The hashes of both files, `label` and `probabilities`.

    Raises:
        UserError: if they cannot be written.
    """
    image = synthetic.images[index]
    values, classes = probabilities.topk(min(TOP, len(probabilities)), dim=0)
    ids = classes.to(torch.uint8).numpy()
    with replacing(synthetic.folder / label_file(image)) as label:
        Image.fromarray(ids[0]).save(label)
        hashes = {"label": file_sha256(label)}
    with replacing(synthetic.folder / probability_file(image)) as file:
        np.savez_compressed(file, classes=ids, values=(values * _MOST).round().to(torch.uint8).numpy())
        hashes["probabilities"] = file_sha256(file)
    return hashes


def remove_teacher_labels(synthetic: SyntheticSet, index: int) -> None:
    """Delete what `write_teacher_labels` wrote for image `index`, if it did."""
    image = synthetic.images[index]
    for name in (label_file(image), probability_file(image)):
        (synthetic.folder / name).unlink(missing_ok=True)


def read_probabilities(path: str | Path, num_classes: int) -> Tensor:
    """Return the class probabilities `(num_classes, H, W)` that were kept of an image.

    What the kept classes leave of 1 is shared equally among the others, so that pixels sum to 1. With all classes kept,
    each is within 1/510 of what the teacher said, up to the division by their sum.

    Raises:
        UserError: if the file is missing or damaged, or knows more classes.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            classes, values = content["classes"], content["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"The teacher's probabilities {str(path)!r} cannot be read ({error}); audit anew.") from None
    if classes.max(initial=0) >= num_classes:
        raise UserError(
            f"{str(path)!r} holds class {classes.max()}, this label space has {num_classes}; use the teacher's."
        )
    kept = torch.from_numpy(values).float() / _MOST
    spare = num_classes - len(kept)
    rest = (1 - kept.sum(0)).clamp(min=0) / max(spare, 1)
    probabilities = rest.repeat(num_classes, 1, 1).scatter(0, torch.from_numpy(classes).long(), kept)
    return probabilities / probabilities.sum(0, keepdim=True)


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
