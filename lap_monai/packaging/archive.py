"""Write a bundle and the modules it needs as one archive in the model zoo's form."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import lap_monai
from lap_monai.checks import UserError, require_dir
from lap_monai.config_safety import unsafe_parts, unusual_code
from lap_monai.files import replacing
from lap_monai.packaging.modules import PACKED_PACKAGE, pack_names, pack_source, package_files
from lap_monai.packaging.weights import WEIGHTS, check_weights

#: What makes a folder a bundle that can be packed.
REQUIRED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md")
#: What is packed of a bundle's folder, beside the weights; results and caches are not.
_FOLDERS = ("configs", "docs")
_LARGE_FILES = ("large_files.yml", "large_files.yaml", "large_files.json")
_README = "docs/README.md"
_CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
_TEXT_SUFFIXES = (*_CONFIG_SUFFIXES, "", ".conf", ".css", ".html", ".md", ".py", ".txt")
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:\\+Users)[/\\]+[^/\\\s\"'`)]+")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


@dataclass(frozen=True)
class PackedBundle:
    """An archive that was written.

    Args:
        path: the file.
        name: the bundle's, and of the one folder in the archive.
        files: the packed files, as paths below that folder.
        size: of the archive in bytes.
        sha256: of the archive.
        weights_size: bytes of the weights in it; 0 if there are none.
        weights_sha256: of the weights; empty if there are none.
    """

    path: Path
    name: str
    files: tuple[str, ...]
    size: int
    sha256: str
    weights_size: int
    weights_sha256: str


def pack_bundle(
    bundle: str | Path, out: str | Path, weights: str | Path | None = None, force: bool = False
) -> PackedBundle:
    """Write a zip archive of a bundle that runs where this package is not installed.

    It holds configs, docs, licence, `large_files.yml` and weights; the needed modules of this package as
    `scripts/lap_monai`; and the configs that name them, changed accordingly. The same input gives the same bytes.

    A config that runs more than bundles need, or that `predict --safe` will refuse, is warned of in one line.

    Args:
        bundle: the bundle's folder.
        out: the archive; its folder is made if need be.
        weights: a `model.pt` for the archive; None takes the bundle's own `models/model.pt`, if there is one.
        force: replace an archive that exists.

    Raises:
        UserError: if the folder is no bundle, `out` exists, a file is a symbolic link or holds the path of somebody's
            home folder, a config names an unknown module, or the weights do not fit the bundle. Nothing is written.
    """
    bundle, out = require_dir(bundle, "The bundle").resolve(), Path(out)
    _require_free(out, force)
    contents = _contents(bundle)
    own = bundle / WEIGHTS
    source = Path(weights) if weights is not None else own if own.exists() or own.is_symlink() else None
    if source is not None:
        contents[WEIGHTS] = _read(source)
        check_weights(source, bundle / "configs" / "inference.json")
    _refuse_personal_paths(contents, bundle)
    _warn_of_code(contents)
    with replacing(out) as temporary:
        _write_zip(temporary, bundle.name, contents)
        archive = temporary.read_bytes()
    return PackedBundle(
        path=out,
        name=bundle.name,
        files=tuple(sorted(contents)),
        size=len(archive),
        sha256=_hash(archive),
        weights_size=len(contents.get(WEIGHTS, b"")),
        weights_sha256=_hash(contents[WEIGHTS]) if WEIGHTS in contents else "",
    )


def _require_free(out: Path, force: bool) -> None:
    if out.is_dir():
        raise UserError(f"{str(out)!r} is a folder; name the archive, for example {str(out / 'bundle.zip')!r}.")
    if out.exists() and not force:
        raise UserError(f"{str(out)!r} exists; give another name, or --force to replace it.")


def _contents(bundle: Path) -> dict[str, bytes]:
    """Return everything but the weights: path in the bundle → bytes."""
    absent = [name for name in REQUIRED if not (bundle / name).is_file()]
    if absent:
        raise UserError(f"{str(bundle)!r} is no bundle to pack: it lacks {', '.join(absent)}.")
    if (bundle / "scripts").exists():
        raise UserError(
            f"{str(bundle / 'scripts')!r} would be overwritten by the packed modules; move its code into lap_monai."
        )
    contents = {path.relative_to(bundle).as_posix(): _read(path) for path in _bundle_files(bundle)}
    configs = {name: data.decode() for name, data in contents.items() if _is_config(name)}
    modules = package_files(configs.values())
    if modules:
        contents |= {name: pack_names(text).encode() for name, text in configs.items()}
        contents |= _scripts(modules)
        contents[_README] = _with_note(contents[_README].decode(), bundle.name).encode()
    return contents


def _bundle_files(bundle: Path) -> Iterator[Path]:
    for name in ("LICENSE", *_LARGE_FILES):
        if (bundle / name).exists() or (bundle / name).is_symlink():
            yield bundle / name
    for folder in _FOLDERS:
        if (bundle / folder).is_symlink():
            yield bundle / folder  # refused by the reader
        for path in sorted((bundle / folder).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(bundle).parts)
            if path.is_symlink() or (path.is_file() and not hidden):
                yield path


def _is_config(name: str) -> bool:
    return name.startswith("configs/") and name.endswith(_CONFIG_SUFFIXES) and name != "configs/metadata.json"


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise UserError(f"{str(path)!r} is a symbolic link, which could lead anywhere; put the file itself there.")
    if not path.is_file():
        raise UserError(f"There is no file {str(path)!r}; give the path of a model.pt.")
    return path.read_bytes()


def _scripts(modules: Mapping[str, Path]) -> dict[str, bytes]:
    packed = {"scripts/__init__.py": b'"""Python code of this bundle."""\n'}
    for name, path in modules.items():
        data = _read(path)
        packed[f"scripts/{name}"] = pack_source(data.decode()).encode() if path.suffix == ".py" else data
    return packed


def _with_note(readme: str, name: str) -> str:
    """Return the README with a note below its title on how an archive differs from the checkout."""
    note = (
        f"> **This archive** was packed from lap_monai {lap_monai.__version__} and runs without it: the modules in use "
        f"lie in `{PACKED_PACKAGE.replace('.', '/')}`, other packages that it needs are in `configs/metadata.json`. "
        f"Run every command **from the folder `{name}`**, because MONAI looks for `scripts` there (or put the folder "
        "on `PYTHONPATH`). Commands that begin with `python -m lap_monai` need the checkout.\n"
    )
    title, _, rest = readme.partition("\n")
    return f"{title}\n\n{note}{rest}"


def _refuse_personal_paths(contents: Mapping[str, bytes], bundle: Path) -> None:
    checkout = str(Path(lap_monai.__file__).resolve().parents[1])
    for name, data in contents.items():
        if Path(name).suffix not in _TEXT_SUFFIXES:
            continue
        text = data.decode(errors="replace")
        found = _HOME.search(text)
        personal = found[0] if found else next((path for path in (str(bundle), checkout) if path in text), None)
        if personal:
            raise UserError(f"{name!r} holds the path {personal!r} of this machine; write a relative or a neutral one.")


def _warn_of_code(contents: Mapping[str, bytes]) -> None:
    """Say what in the configs would make a careful recipient stop."""
    found = []
    for name, data in contents.items():
        if not (_is_config(name) and name.endswith(".json")):
            continue
        try:
            config = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name!r} is no JSON ({error}); mend it.") from error
        found += [f"{name} has {entry}" for entry in unusual_code(config)]
        if name == "configs/inference.json":
            found += [f"{name}: {entry}" for entry in unsafe_parts(config, ("network_def", "preprocessing", "inferer"))]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        warnings.warn(
            f"Whoever opens this bundle runs code of its own: {found[0]}{more}; predict --safe refuses it if it is in "
            "the network, the preprocessing or the inferer.",
            stacklevel=3,
        )


def _write_zip(path: Path, folder: str, contents: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(f"{folder}/{name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name])


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
