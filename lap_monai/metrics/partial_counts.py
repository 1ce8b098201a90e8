"""Scores under partial labels: each class is judged where the labels know of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lap_monai.task_stream import Knowledge


def known_counts(matrices: ArrayLike, knowledge: ArrayLike) -> NDArray[Any]:
    """Turn confusion matrices into one binary confusion matrix per class, of the pixels where the class is known.

    A class is known where a pixel carries a class, and at unlabelled pixels (0) if the frame's `Knowledge` says so. An
    unannotated stomach that was predicted as such is hence no false positive, unless it covers an annotated liver.

    Args:
        matrices: whole numbers `(N, C, C)` of N frames, rows the truth, columns the prediction (`confusion_matrix`).
        knowledge: `(N, C)`, see `Knowledge`.

    Returns:
        `(N, C, 2, 2)`, of the type of `matrices`: `[[TN, FP], [FN, TP]]` of each class. It goes into `class_iou`,
        `iou`, `iou_per_image` and the others as any stack of matrices does; entry `[..., 1]` of their result is the
        class's score, as in `iou(counts)[:, 1]`.

    Raises:
        ValueError: if the shapes do not fit together.

    Examples:
        One frame, the second class unknown, of whose 5 predicted pixels 2 lie on the first class:

        >>> matrix = [[6, 0, 3], [0, 4, 2], [0, 0, 0]]
        >>> known_counts([matrix], [[0, 2, 0]])[0, 1:].tolist()
        [[[9, 0], [2, 4]], [[4, 2], [0, 0]]]
    """
    counts, vectors = np.asarray(matrices), np.asarray(knowledge)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2] or vectors.shape != counts.shape[:2]:
        raise ValueError(
            f"known_counts: expected matrices (N, C, C) and knowledge (N, C), got {counts.shape} and {vectors.shape}."
        )
    counted = np.ones(counts.shape, dtype=bool)  # frame, truth, class: whether the class is known at such pixels
    counted[:, 0, :] = vectors != Knowledge.UNKNOWN
    hits = counts * counted
    true_positive = np.diagonal(hits, axis1=1, axis2=2)
    predicted = hits.sum(axis=1)
    labelled = np.diagonal(counts.sum(axis=2)[:, :, None] * counted, axis1=1, axis2=2)
    total = (counts.sum(axis=2)[:, :, None] * counted).sum(axis=1)
    true_negative = total - predicted - labelled + true_positive
    cells = [true_negative, predicted - true_positive, labelled - true_positive, true_positive]
    return np.stack(cells, axis=-1).reshape(*vectors.shape, 2, 2)
