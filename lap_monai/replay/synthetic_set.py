"""A folder of synthetic images that says, image by image, where each comes from and what was found out about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.data import Row, read_frame
from lap_monai.files import read_json, remove_leftovers, replacing, write_json
from lap_monai.flatten import flatten
from lap_monai.keys import CLIP, FRAME, IMAGE, LABEL, PHASE, VIDEO

__all__ = ["SyntheticImage", "SyntheticSet", "image_seed"]

MANIFEST = "manifest.json"
#: To be raised with every change of what a manifest holds.
VERSION = 1

_SHARD = 1000  # images a folder holds

#: Seeds → images `(N, H, W, 3)` uint8, as the generator that made a set draws them.
Regenerate = Callable[[Sequence[int]], NDArray[np.uint8]]


def image_seed(seed: int, index: int) -> int:
    """Return the seed of image `index` of a set whose base seed is `seed`.

    53 bits: every JSON reader keeps them, and in a set of a million images two are alike with a chance of 1 in 18,000.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(11))


@dataclass
class SyntheticImage:
    """What the manifest holds about one image.

    Args:
        index: its number in the set, from 0.
        file: its path below the set's folder.
        seed: from which the generator draws it again.
        sha256: of the file.
        scores: name → value that a filter or an audit measured.
        dropped: reasons to keep it out of training; kept if there is none.
    """

    index: int
    file: str
    seed: int
    sha256: str
    scores: dict[str, float | None] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


class SyntheticSet:
    """Images of one generator, on disk: `images/00000/00000123.png`, a thousand to a folder, and `manifest.json`.

    The manifest names the generator (hash of its weights), the sampler, the seed, scores and reasons for being dropped
    of every image, and the audit. Image `i` is a function of generator, sampler and `image_seed(seed, i)`, so a set can
    be extended later, continued after an interruption, and checked by drawing some of its images again.

    Images, then the manifest, are each written whole or not at all: a process that is killed leaves a valid set, and
    whoever continues it ends with the files that an uninterrupted run would have left.

    Examples:
        >>> synthetic = SyntheticSet.open("replay/step_1")  # doctest: +SKIP
        >>> synthetic.set_scores({0: {"nearest": 0.12}})  # doctest: +SKIP
        >>> synthetic.drop(0, "memorised")  # doctest: +SKIP
        >>> synthetic.save()  # doctest: +SKIP
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], images: list[SyntheticImage]) -> None:
        """Hold what `create` or `open` found; one of them is the way in."""
        self.folder = folder
        self.generator: dict[str, Any] = dict(manifest["generator"])
        self.sampler: dict[str, Any] = dict(manifest["sampler"])
        self.seed = int(manifest["seed"])
        self.audit: dict[str, Any] | None = manifest["audit"]
        self.images = images

    @classmethod
    def create(
        cls, folder: str | Path, generator: Mapping[str, Any], sampler: Mapping[str, Any], seed: int
    ) -> SyntheticSet:
        """Start a set in `folder`, or go on with the one that the same generator, sampler and seed started there.

        Args:
            folder: made if need be.
            generator: what the images come from, JSON-able; with `sha256` of the weights and `frame_size` `[H, W]`.
            sampler: how they are drawn, JSON-able; with its `name`.
            seed: base of all images' seeds.

        Raises:
            UserError: if the folder holds anything else, or a set of another generator, sampler or seed.
        """
        folder = Path(folder)
        remove_leftovers(folder / MANIFEST)  # of a process that was killed while it wrote one
        asked = {"generator": _as_json(generator), "sampler": _as_json(sampler), "seed": seed}
        if (folder / MANIFEST).is_file():
            found = cls.open(folder)
            found._require_same(asked)
            return found
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{str(folder)!r} holds files but no {MANIFEST}; name another folder for the synthetic set."
            )
        started = cls(folder, {**asked, "audit": None}, [])
        started.save()
        return started

    @classmethod
    def open(cls, folder: str | Path) -> SyntheticSet:
        """Open a set.

        Raises:
            UserError: if there is none, its manifest is damaged or of another version, or names images that are not
                there. Whether their bytes are those that were written, `verify` tells.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise UserError(f"There is no synthetic set in {str(folder)!r}: {MANIFEST} is missing; generate one first.")
        try:
            manifest = read_json(path)
            if manifest["version"] != VERSION:
                raise UserError(
                    f"{str(path)!r} is of version {manifest['version']!r}, this lap_monai reads {VERSION}; "
                    "generate the set anew."
                )
            images = [SyntheticImage(**entry) for entry in manifest["images"]]
            opened = cls(folder, manifest, images)
            opened._require_form()
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{str(path)!r} is damaged ({type(error).__name__}: {error}); restore it, or generate the set anew."
            ) from None
        opened._check_files()
        return opened

    def __len__(self) -> int:
        """Number of images, dropped ones included."""
        return len(self.images)

    @property
    def kept(self) -> list[SyntheticImage]:
        """The images that nothing speaks against."""
        return [image for image in self.images if not image.dropped]

    @property
    def frame_size(self) -> tuple[int, int]:
        """`(H, W)` of every image."""
        height, width = self.generator["frame_size"]
        return int(height), int(width)

    def path(self, index: int) -> Path:
        """Return the file of image `index`."""
        return self.folder / self.images[index].file

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`, `(H, W, 3)` uint8 RGB.

        Raises:
            UserError: if the file is missing, damaged, or of another size than the generator's.
        """
        pixels = np.asarray(read_frame(self.path(index)))
        if pixels.shape[:2] != self.frame_size:
            raise UserError(
                f"{str(self.path(index))!r} is {pixels.shape[1]}x{pixels.shape[0]}, the set's generator draws "
                f"{self.frame_size[1]}x{self.frame_size[0]}; restore the set, or generate it anew."
            )
        return pixels

    def next_seeds(self, count: int) -> list[int]:
        """Return the seeds of the `count` images that `extend` expects next."""
        return [image_seed(self.seed, len(self) + i) for i in range(count)]

    def extend(self, images: NDArray[np.uint8]) -> None:
        """Append images `(N, H, W, 3)` uint8, drawn from `next_seeds(N)`, and write them and the manifest.

        The manifest is written last: of an interrupted call some files may be there, but no entry; the next call
        replaces them. An audit of the smaller set is dropped from the manifest: it did not see these.

        Raises:
            UserError: if the images are of another size than the generator's, or the disk is full. The set is then what
                it was before.
        """
        if images.dtype != np.uint8 or images.shape[1:] != (*self.frame_size, 3):
            raise UserError(
                f"A set of {self.frame_size[1]}x{self.frame_size[0]} images was given {images.dtype} "
                f"{images.shape}; generate with frame_size {list(self.frame_size)}, or into another folder."
            )
        added = []
        for i, (pixels, seed) in enumerate(zip(images, self.next_seeds(len(images)), strict=True)):
            index = len(self) + i
            remove_leftovers(self.folder / _file(index))
            with replacing(self.folder / _file(index)) as temporary:
                Image.fromarray(pixels).save(temporary)
                digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            added.append(SyntheticImage(index, _file(index), seed, digest))
        before = self.images, self.audit
        self.images, self.audit = [*self.images, *added], None
        try:
            self.save()
        except BaseException:
            self.images, self.audit = before
            raise

    def rows(self) -> list[Row]:
        """Return datalist rows of the kept images: without mask and phase, each its own clip.

        The `video` is `synthetic_` and the first eight digits of the generator's hash: sets of several generators mix
        without clashes, and no split takes a synthetic image for a patient's.
        """
        video = f"synthetic_{str(self.generator['sha256'])[:8]}"
        return [
            {
                IMAGE: str(self.path(image.index).absolute()),
                LABEL: None,
                VIDEO: video,
                CLIP: f"{video}_{image.index}",
                FRAME: image.index,
                PHASE: None,
            }
            for image in self.kept
        ]

    def set_scores(self, scores: Mapping[int, Mapping[str, float | None]]) -> None:
        """Add to, or replace, scores of images: `{index: {name: value}}`. In memory until `save`."""
        for index, values in scores.items():
            self.images[index].scores.update(values)

    def drop(self, index: int, reason: str) -> None:
        """Keep image `index` out of `rows`, for one more reason. In memory until `save`; the file stays."""
        if reason not in self.images[index].dropped:
            self.images[index].dropped.append(reason)

    def keep(self, reasons: Iterable[str]) -> None:
        """Take back these reasons on every image, so that a filter can be run anew. In memory until `save`."""
        gone = set(reasons)
        for image in self.images:
            image.dropped = [reason for reason in image.dropped if reason not in gone]

    def set_audit(self, audit: Mapping[str, Any] | None) -> None:
        """Set what an audit found about the set as a whole, JSON-able. In memory until `save`."""
        self.audit = None if audit is None else dict(audit)

    def save(self) -> None:
        """Write the manifest.

        Raises:
            UserError: if it cannot be written; the one before is then still whole.
        """
        write_json(
            self.folder / MANIFEST,
            {
                "version": VERSION,
                "generator": self.generator,
                "sampler": self.sampler,
                "seed": self.seed,
                "images": [vars(image) for image in self.images],
                "audit": self.audit,
            },
        )

    def verify(self, regenerate: Regenerate | None = None, sample: int = 16, tolerance: int = 0) -> dict[str, int]:
        """Compare every file with its hash; with a generator, draw some of the images again and compare pixels.

        Args:
            regenerate: draws images from seeds.
            sample: how many to draw again, spread evenly over the set.
            tolerance: grey levels by which a pixel may differ. 0 is for the machine that made the set; another
                processor or GPU adds in another order, which costs a grey level here and there.

        Returns:
            `images` compared by hash, `redrawn`, and `largest_difference` of these in grey levels.

        Raises:
            UserError: naming the first image that is not what the manifest says, and how many more.
        """
        wrong = [image for image in self.images if self._hash(image) != image.sha256]
        if wrong:
            raise UserError(
                f"{str(self.folder / wrong[0].file)!r} is not the image that the manifest names{_and_more(wrong)}; "
                "restore the set, or generate it anew."
            )
        found = {"images": len(self), "redrawn": 0, "largest_difference": 0}
        if regenerate is None or not self.images or sample < 1:
            return found
        chosen = np.unique(np.linspace(0, len(self) - 1, min(sample, len(self))).round().astype(int)).tolist()
        again = regenerate([self.images[index].seed for index in chosen]).astype(int)
        differences = [int(abs(self.read(i) - drawn).max()) for i, drawn in zip(chosen, again, strict=True)]
        different = [self.images[i] for i, value in zip(chosen, differences, strict=True) if value > tolerance]
        if different:
            raise UserError(
                f"{str(self.folder / different[0].file)!r} is not what its generator draws from seed "
                f"{different[0].seed}{_and_more(different)}: pixels differ by up to {max(differences)} grey levels "
                f"(allowed: {tolerance}); use the generator and machine that made it, or allow more."
            )
        return found | {"redrawn": len(chosen), "largest_difference": max(differences)}

    def _hash(self, image: SyntheticImage) -> str:
        try:
            return hashlib.sha256((self.folder / image.file).read_bytes()).hexdigest()
        except OSError:
            return ""

    def _require_form(self) -> None:
        """Raise a `ValueError` if the manifest's values are not what the rest of this class takes for granted."""
        height, width = self.generator["frame_size"]
        if not all(isinstance(side, int) and side > 0 for side in (height, width)):
            raise ValueError(f"frame_size {height!r}, {width!r}")
        if not isinstance(self.generator["sha256"], str) or not isinstance(self.audit, dict | None):
            raise ValueError("the generator's sha256 is no text, or the audit no object")
        for place, image in enumerate(self.images):
            known = isinstance(image.scores, dict) and isinstance(image.dropped, list)
            if not known or type(image.seed) is not int or not isinstance(image.sha256, str):
                raise ValueError(f"entry {place} has values of another kind")

    def _check_files(self) -> None:
        path = self.folder / MANIFEST
        for index, image in enumerate(self.images):
            # The name is a function of the index, so a manifest from elsewhere cannot lead out of the folder.
            if image.index != index or image.file != _file(index):
                raise UserError(
                    f"{str(path)!r} is damaged: entry {index} names image {image.index!r}, {image.file!r}; "
                    "restore it, or generate the set anew."
                )
        missing = [image for image in self.images if not (self.folder / image.file).is_file()]
        if missing:
            raise UserError(
                f"{str(path)!r} names {missing[0].file!r}, which is missing{_and_more(missing)}; "
                "restore the images, or generate the set anew."
            )

    def _require_same(self, asked: Mapping[str, Any]) -> None:
        before = flatten(_as_json({"generator": self.generator, "sampler": self.sampler, "seed": self.seed}))
        now = flatten(asked)
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                raise UserError(
                    f"The set in {str(self.folder)!r} was made with {name} {before.get(name)!r}, now it is "
                    f"{now.get(name)!r}; generate into another folder, or with what made it."
                )


def _file(index: int) -> str:
    return f"images/{index // _SHARD:05d}/{index:08d}.png"


def _and_more(images: Sequence[SyntheticImage]) -> str:
    return f" (and {len(images) - 1} more)" if len(images) > 1 else ""


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON makes of a mapping: tuples become lists."""
    return json.loads(json.dumps(value))
