"""What `run.json` says of an error: all of it but where the results lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.files import read_json
from lap_monai.inference import Arrays, Options, Predictor, predict
from lap_monai.inference.writer import WRITERS, FileWriter


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("folder", ["a", "runs/Jane Doe", "absolute"])
def test_the_folder_is_replaced_as_a_path_and_nothing_else_is(
    folder: str, keep: bool, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "Jane" if folder == "absolute" else Path(folder)

    class Full(FileWriter):
        def __init__(self, output: object) -> None: ...

        def write(self, item: object, prediction: object) -> None:
            raise UserError(f"Cannot write {str(out / 'a.png')!r} to {str(out)!r}: a disk is full; name another.")

    monkeypatch.setitem(WRITERS, "full", Full)
    with pytest.raises(UserError, match="a disk is full"):
        predict(Arrays([picture(1)]), predictor, out, Options(write=("full",), keep_identifiers=keep))
    place = str(out) if keep else "OUT"
    said = read_json(out / "run.json")["error"]
    assert said == f"UserError: Cannot write '{place}/a.png' to '{place}': a disk is full; name another."
