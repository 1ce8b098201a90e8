"""Reading and checking a table file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lap_monai.data.budgets import UNITS
from lap_monai.experiments.declaration import Declaration
from lap_monai.experiments.strict_yaml import load_yaml
from lap_monai.experiments.table import AXES, Published, Row, Stage, Table

#: Config ids that the axes and the runner decide; a row that sets one would not be the cell it is called.
RESERVED = ("budget", "budget_unit", "subset", "seed", "method", "resume", "output_dir", "ckpt_dir", "dataset_dir")


def load_table(path: str | Path) -> Table:
    """Read and check a table file. Overlays are names in the bundle's `configs` folder or paths beside the table.

    Raises:
        UserError: if the file is missing, a key is unknown or stands twice, a value has the wrong form, a config file
            does not exist, two rows are one, or a repetition stands twice.
    """
    path = Path(path)
    return _Reader(path, load_yaml(path, "table")).table()


class _Reader(Declaration):
    """Turns the content of a table file into a `Table`, and says where it is wrong."""

    what, plural = "table", "tables"

    def table(self) -> Table:
        known = (
            "name description bundle configs evaluate settings rows budgets unit subsets seeds splits reference "
            "expected_time published"
        )
        self._keys(self.content, known, "the table", needed="name bundle rows budgets")
        rows = self._rows()
        names = [row.name for row in rows]
        reference = str(self.content.get("reference", names[0]))
        self._choice(reference, names, "reference")
        budgets = tuple(self._list("budgets", (int, float), "shares such as 0.05"))
        if bad := [budget for budget in budgets if not 0 < budget <= 1]:
            self._fail(f"budget {bad[0]} must be above 0 and at most 1 (0.05 for 5 %)")
        source, published = self._published()
        return Table(
            name=self._name(self.content["name"], "name"),
            description=" ".join(str(self.content.get("description", "")).split()),
            bundle=self._bundle(),
            configs=self._configs(self.content.get("configs", ["train.json"]), "configs"),
            evaluate=self._configs(self.content.get("evaluate", ["evaluate.json"]), "evaluate"),
            settings=self._settings(self.content.get("settings"), "settings"),
            rows=rows,
            budgets=tuple(float(budget) for budget in budgets),
            unit=self._choice(str(self.content.get("unit", "frame")), UNITS, "unit"),
            subsets=tuple(self._list("subsets", (int,), "whole numbers", [0])),
            seeds=tuple(self._list("seeds", (int,), "whole numbers", [0])),
            splits=tuple(self._split(name) for name in self._list("splits", (str,), "names or files", [], empty=True)),
            reference=reference,
            expected_time=" ".join(str(self.content.get("expected_time", "not stated")).split()),
            published_source=source,
            published=published,
            content=self.content,
        )

    def _rows(self) -> tuple[Row, ...]:
        declared = self.content["rows"]
        if not isinstance(declared, dict) or not declared:
            self._fail("rows must be a mapping, method name: {overlays, settings}, with one row at least")
        rows = tuple(self._row(self._name(name, "row"), entry or {}) for name, entry in declared.items())
        for one, other in itertools.combinations(rows, 2):
            if one.label == other.label:
                self._fail(f"rows {one.name!r} and {other.name!r} have the same label {one.label!r}")
            if one.stages == other.stages:
                self._fail(f"rows {one.name!r} and {other.name!r} are the same runs under two names; drop one")
        return rows

    def _row(self, name: str, entry: dict[str, Any]) -> Row:
        where = f"row {name!r}"
        self._mapping(entry, where)
        self._keys(entry, "label overlays settings stages", where)
        stages = entry.get("stages")
        if stages is None:
            alone = {key: value for key, value in entry.items() if key in ("overlays", "settings")}
            return Row(name, str(entry.get("label", name)), (self._stage("train", alone, where, ()),))
        if not isinstance(stages, list) or not stages or {"overlays", "settings"} & set(entry):
            self._fail(f"{where}: stages must be a list, and overlays and settings stand in its stages")
        built: list[Stage] = []
        for number, stage in enumerate(stages, 1):
            self._mapping(stage, f"{where}, stage {number}")
            stage_name = self._name(stage.get("name", ""), f"name of {where}, stage {number}")
            if stage_name in [earlier.name for earlier in built]:
                self._fail(f"{where}: two stages are called {stage_name!r}")
            built.append(self._stage(stage_name, stage, f"{where}, stage {stage_name!r}", built))
        if built[-1].per != AXES:
            self._fail(f"{where}: the last stage is the cell itself and depends on all axes; drop its `per`")
        return Row(name, str(entry.get("label", name)), tuple(built))

    def _stage(self, name: str, entry: dict[str, Any], where: str, earlier: Sequence[Stage]) -> Stage:
        self._keys(entry, "name overlays settings uses per", where)
        uses = entry.get("uses") or {}
        self._mapping(uses, f"uses of {where}")
        for key, file in uses.items():
            stage_name, slash, rest = str(file).partition("/")
            if not slash or not rest or ".." in Path(rest).parts:
                self._fail(f"{where}: {key} uses {file!r}; write STAGE/FILE, such as pretrain/models/model.pt")
            self._choice(stage_name, [stage.name for stage in earlier], f"earlier stage in {where}")
        per = entry.get("per", list(AXES))
        if not isinstance(per, list):
            self._fail(f"{where}: per must be a list of {', '.join(AXES)}")
        axes = {self._choice(str(axis), AXES, f"axis in {where}") for axis in per}
        return Stage(
            name=name,
            overlays=self._configs(entry.get("overlays") or [], f"overlays of {where}"),
            settings=self._settings(entry.get("settings"), f"settings of {where}"),
            uses={str(key): str(file) for key, file in uses.items()},
            per=tuple(axis for axis in AXES if axis in axes),
        )

    def _published(self) -> tuple[str, dict[str, dict[float, Published]]]:
        declared = self.content.get("published") or {}
        self._mapping(declared, "published")
        self._keys(declared, "source rows", "published", needed="source rows" if declared else "")
        rows: dict[str, dict[float, Published]] = {}
        for name, budgets in (declared.get("rows") or {}).items():
            self._mapping(budgets, f"published {name}")
            rows[str(name)] = {
                float(budget): {str(label): self._value(value, f"published {name} {budget}, {label}")
                                for label, value in self._mapping(classes, f"published {name} {budget}").items()}
                for budget, classes in budgets.items()
            }  # fmt: skip
        return str(declared.get("source", "")), rows

    def _value(self, value: Any, where: str) -> tuple[float, float | None]:
        parts = value if isinstance(value, list) else [value]
        numbers = [float(part) for part in parts if isinstance(part, (int, float)) and not isinstance(part, bool)]
        if len(numbers) != len(parts) or not 1 <= len(parts) <= 2:
            self._fail(f"{where} must be a number or [value, spread], not {value!r}")
        return numbers[0], numbers[1] if len(numbers) > 1 else None

    def _bundle(self) -> Path:
        return self._bundle_folder(self.content["bundle"], "bundle")

    def _configs(self, names: Any, where: str) -> tuple[Path, ...]:
        return self._config_files(names, where, self._bundle())

    def _split(self, name: str) -> str:
        return str((self.path.parent / name).resolve()) if name.endswith(".json") else name

    def _settings(self, settings: Any, where: str) -> dict[str, Any]:
        settings = self._mapping(settings or {}, where)
        for key in settings:
            if key in RESERVED or (key == "split" and self.content.get("splits")):
                self._fail(f"{where}: {key!r} is what cells differ in, or the runner's; set it by the table's own keys")
        return {str(key): value for key, value in settings.items()}
