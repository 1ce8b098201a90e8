"""A trained bundle, opened for inference: from its folder, an archive of it, or the folder of a training run.

A bundle's config may hold Python expressions and name any class, and MONAI runs both. Only three parts of it are built
here. Where these name stock classes and plain values alone, as those of our own bundles do, nothing else of the config
is evaluated; where they do not, opening the bundle warns, or with `safe` refuses. Weights are read without running
anything.
"""

from __future__ import annotations

import hashlib
import json
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer

from lap_monai.checkpoints import read_checkpoint
from lap_monai.checks import UserError
from lap_monai.config_safety import needed_parts, unsafe_parts
from lap_monai.inference.preprocessing import Preprocessing
from lap_monai.label_space import LABEL_SPACES, RGB, LabelSpace, get_label_space

_CONFIG, _METADATA, _WEIGHTS = "configs/inference.json", "configs/metadata.json", "models/model.pt"
#: What is built of an inference config.
_BUILT = ("network_def", "preprocessing", "inferer")
#: An archive that unpacks to more is refused: no bundle of ours comes near.
_MOST_BYTES, _MOST_FILES = 8 * 2**30, 10_000
#: Colours for classes of a label space that is not ours; the first is grey, which is left untinted.
_COLOURS: tuple[RGB, ...] = (
    (127, 127, 127),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (255, 160, 165),
    (170, 255, 0),
    (111, 74, 200),
    (0, 220, 220),
    (165, 90, 40),
)


@dataclass(frozen=True, eq=False)
class Bundle:
    """What inference needs of a bundle.

    Args:
        root: folder with `configs` and, for files that other engines export, `models`.
        weights: the `model.pt`.
        name: from the metadata.
        version: from the metadata.
        label_space: names and colours of the classes, in the order of the network's channels.
        stride: sides of what the network takes are multiples of it. The metadata name one for all networks that the
            bundle's overlays may build; this is the network's own, which is no greater: less padding costs less, and
            leaves normalisation over the picture to the picture.
        preprocessing: frame → what the network takes.
    """

    root: Path
    weights: Path
    name: str
    version: str
    label_space: LabelSpace
    stride: int
    preprocessing: Preprocessing
    _config: dict[str, Any] = field(repr=False)
    _unpacked: Any = field(default=None, repr=False)  # keeps the temporary folder of an archive alive

    @classmethod
    def open(cls, path: str | Path, safe: bool = False) -> Bundle:
        """Open a bundle's folder, a zip archive of one, or a run folder that holds `models/model.pt`.

        Args:
            path: the folder or archive.
            safe: refuse a config that names more than stock classes and plain values, instead of warning of it.

        Raises:
            UserError: if there is none, an archive is damaged or would write outside its folder, weights are missing
                or belong to another network, classes disagree among weights, config and metadata, or `safe` refuses.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(f"The bundle {str(path)!r} does not exist; give its folder, its archive or a run folder.")
        unpacked = None
        if path.is_file():
            unpacked = tempfile.TemporaryDirectory(prefix="lap_monai_bundle_")
            path = _unpack(path, Path(unpacked.name))
        try:
            if (path / _CONFIG).is_file():
                config, root = _read_json(path / _CONFIG), path
                metadata = _read_json(path / _METADATA)
                space = _space_of(metadata, path)
            else:
                config, root, metadata, space = _of_run(path)
            stride = _stride(metadata)
        except (AttributeError, KeyError, TypeError) as error:  # of values of another kind than the form has
            raise UserError(
                f"Config or metadata of {str(path)!r} are not of MONAI's zoo form ({type(error).__name__}: {error}); "
                "mend them."
            ) from error
        _require_trust(config, path, safe)
        weights = path / _WEIGHTS
        if not weights.is_file():
            raise UserError(f"{str(path)!r} holds no {_WEIGHTS}; train first, or give the run folder of the training.")
        bundle = cls(
            root=root,
            weights=weights,
            name=str(metadata.get("name", path.name)),
            version=str(metadata.get("version", "")),
            label_space=space,
            stride=stride,
            preprocessing=_preprocessing(config, root),
            _config=config,
            _unpacked=unpacked,
        )
        return replace(bundle, stride=bundle._require_agreement())

    def build_network(self) -> torch.nn.Module:
        """Return the network with its weights, on the CPU, in evaluation mode.

        Raises:
            UserError: if the weights are damaged or of another network or label space.
        """
        network = _parse(self._config, "network_def", self.root)
        known = self.label_space.name in LABEL_SPACES
        read_checkpoint(self.weights, {"model": network}, {"label_space": self.label_space.name} if known else None)
        return network.eval()

    @property
    def inference_config(self) -> dict[str, Any]:
        """A copy of the inference config, unresolved; for a training run with the run's network and sizes."""
        return json.loads(json.dumps(self._config))

    def build_inferer(self) -> Inferer:
        """Return the inferer that the bundle declares: a sliding window."""
        return _parse(self._config, "inferer", self.root)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the weights' file."""
        with self.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _require_agreement(self) -> int:
        """Check that the network takes frames and knows the classes; return its own stride."""
        network = self.build_network()
        side = 2 * self.stride
        sides: list[int] = []

        def note(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[-1] > 1:  # 1: a global pooling
                sides.append(output.shape[-1])

        for module in network.modules():
            module.register_forward_hook(note)
        try:
            with torch.inference_mode():
                channels = network(torch.zeros(1, 3, side, side)).shape[1]
        except Exception as error:  # whatever a network makes of frames that it is not for
            text = " ".join(str(error).split())[:200]
            raise UserError(f"The network of {str(self.root)!r} does not take RGB frames: {text}; mend it.") from error
        if channels != self.label_space.num_classes:
            raise UserError(
                f"The network of {str(self.root)!r} has {channels} classes, but its label space "
                f"{self.label_space.name!r} has {self.label_space.num_classes}; mend channel_def in {_METADATA}."
            )
        own = side // min(sides)
        return own if self.stride % own == 0 else self.stride


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack a bundle's archive and return the folder in it that holds the configs."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                _require_inside(member, archive)
            if len(packed.infolist()) > _MOST_FILES:
                raise UserError(f"{str(archive)!r} holds {len(packed.infolist())} files; it is no bundle.")
            if sum(member.file_size for member in packed.infolist()) > _MOST_BYTES:
                raise UserError(f"{str(archive)!r} would unpack to more than {_MOST_BYTES >> 30} GiB; it is no bundle.")
            packed.extractall(folder)
    except UserError:
        raise
    except Exception as error:  # damage ends in errors of any kind, from the archive, its codec or a name in it
        raise UserError(f"{str(archive)!r} is damaged or no zip archive ({error}); pack the bundle again.") from error
    found = sorted(folder.glob(f"{_CONFIG}")) + sorted(folder.glob(f"*/{_CONFIG}"))
    if len(found) != 1:
        raise UserError(f"{str(archive)!r} holds {len(found)} bundles; make it with python -m lap_monai package.")
    return found[0].parents[1]


def _require_inside(member: zipfile.ZipInfo, archive: Path) -> None:
    # `extractall` would drop the climbing parts in silence; who packs such names means harm.
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    climbs = ".." in parts or (parts and (parts[0] == "/" or ":" in parts[0]))
    if climbs or stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"{str(archive)!r} holds {member.filename!r}, which leads outside; do not use this archive.")


def _of_run(run: Path) -> tuple[dict[str, Any], Path, dict[str, Any], LabelSpace]:
    """Config, bundle folder, metadata and label space of a training run, which keeps its merged config."""
    merged = next(
        (
            config
            for path in (run / "config_train.json", *sorted(run.glob("config_*.json")))
            if path.is_file() and "backbone_def" in (config := _read_json(path))
        ),
        None,
    )
    if merged is None:
        raise UserError(
            f"{str(run)!r} is neither a bundle (no {_CONFIG}) nor a run folder (no config_*.json of a training); "
            "give the folder that holds configs and models."
        )
    root = Path(merged["bundle_root"])
    if not (root / _CONFIG).is_file():
        raise UserError(f"The bundle {str(root)!r} that {str(run)!r} was trained with is not there; put it back.")
    space = get_label_space(merged["label_space"])
    config = _read_json(root / _CONFIG)
    backbone = merged["backbone_def"]
    for overlay in sorted((root / "configs").glob("inference_*.json")):
        network = _read_json(overlay).get("network_def", {})
        if network.get("_target_") == backbone["_target_"] != config["network_def"]["_target_"]:
            backbone = backbone | network  # what differs from training: no pretrained weights are fetched
    config |= {key: merged[key] for key in ("frame_size", "window", "overlap") if key in merged}
    config |= {"num_classes": space.num_classes, "network_def": backbone | {"out_channels": "@num_classes"}}
    return config, root, _read_json(root / _METADATA), space


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} cannot be read as JSON ({error}); restore it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{str(path)!r} holds no JSON object; restore it.")
    return content


def _output(metadata: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next(iter(metadata.get("network_data_format", {}).get(kind, {}).values()), {})


def _space_of(metadata: Mapping[str, Any], path: Path) -> LabelSpace:
    """The label space that the metadata's `channel_def` names: one of ours, or one made of its words."""
    channels = _output(metadata, "outputs").get("channel_def", {})
    try:
        classes = tuple(str(channels[str(index)]) for index in range(len(channels)))
    except KeyError as error:
        raise UserError(f"channel_def in {str(path / _METADATA)!r} lacks class {error}; number them from 0.") from None
    if not 2 <= len(classes) <= 255:
        raise UserError(f"channel_def in {str(path / _METADATA)!r} names {len(classes)} classes; name all of them.")
    known = next((space for space in LABEL_SPACES.values() if space.classes == classes), None)
    return known or LabelSpace(
        name=str(metadata.get("name", path.name)),
        layout="",
        classes=classes,
        colours=tuple(_COLOURS[i if i < len(_COLOURS) else 1 + i % (len(_COLOURS) - 1)] for i in range(len(classes))),
        values={index: index for index in range(len(classes))},
        ignored=(),
        origin=f"channel_def of {metadata.get('name', path.name)}",
    )


def _stride(metadata: Mapping[str, Any]) -> int:
    """The `n` factor of the network's spatial shape, such as 32 of `"32*n"`."""
    shape = _output(metadata, "inputs").get("spatial_shape", [])
    factors = [side.split("*")[0] for side in shape if isinstance(side, str) and "*" in side]
    return max((int(factor) for factor in factors if factor.isdecimal() and 0 < int(factor[:4]) < 1000), default=32)


def _preprocessing(config: Mapping[str, Any], root: Path) -> Preprocessing:
    try:
        return Preprocessing.of_transforms(_parse(config, "preprocessing", root).transforms, str(root / _CONFIG))
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"preprocessing in {str(root / _CONFIG)!r} is no Compose of transforms with their sizes and ranges "
            f"({error}); mend it."
        ) from error


def _require_trust(config: Mapping[str, Any], path: Path, safe: bool) -> None:
    found = unsafe_parts(config, _BUILT)
    if not found:
        return
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    if safe:
        raise UserError(
            f"The config of {str(path)!r} is not limited to stock classes and plain values: {found[0]}{more}; if you "
            "trust whoever made it, leave --safe out."
        )
    warnings.warn(
        f"The config of {str(path)!r} runs code of its own: {found[0]}{more}; go on only with bundles that you trust "
        "(--safe refuses others).",
        stacklevel=3,
    )


def _parse(config: Mapping[str, Any], name: str, root: Path) -> Any:
    # The parser runs every import of the config that it is given, so it is given no more than it needs.
    wanted = config if unsafe_parts(config, _BUILT) else needed_parts(config, [name])
    parser = ConfigParser(config=json.loads(json.dumps(wanted)))  # the parser rewrites parts of what it is given
    parser["bundle_root"] = str(root.resolve())
    parser["device"] = "cpu"
    if name not in parser:
        raise UserError(f"{str(root / _CONFIG)!r} has no {name!r}; it is no inference config of MONAI's zoo form.")
    try:
        return parser.get_parsed_content(name)
    except Exception as error:  # whatever the config's own expressions and classes raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())
        raise UserError(f"{name!r} of {str(root / _CONFIG)!r} cannot be built: {text}; mend the config.") from error
