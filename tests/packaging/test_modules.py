from __future__ import annotations

import ast
import textwrap

import pytest

from lap_monai.packaging import pack_names, pack_source, package_files


def files_for(*names: str) -> set[str]:
    return set(package_files([f'{{"_target_": "{name}"}}' for name in names]))


def test_a_config_that_names_nothing_of_ours_needs_nothing() -> None:
    assert (
        package_files(['{"_target_": "BasicUNet", "note": "/data/lap_monai/frames, python -m lap_monai check"}']) == {}
    )


def test_a_loss_brings_its_subpackage_and_vocabulary_but_no_handlers() -> None:
    files = files_for("lap_monai.losses.FocalLoss")
    assert {"lap_monai/__init__.py", "lap_monai/losses/focal.py", "lap_monai/keys.py", "lap_monai/checks.py"} <= files
    assert not [name for name in files if name.startswith(("lap_monai/handlers", "lap_monai/data"))]


def test_modules_that_are_imported_on_first_use_come_too() -> None:
    assert {"lap_monai/data/dataset.py", "lap_monai/data/sampler.py"} <= files_for("lap_monai.data.read_layout")


def test_files_that_modules_read_come_too() -> None:
    files = files_for("lap_monai.handlers.ResultsWriter")
    assert {"lap_monai/reports/report.html", "lap_monai/reports/report.css"} <= files
    assert "configs/splits/zhang_1.json" in files


def test_the_command_line_and_the_packer_stay_behind() -> None:
    files = files_for("lap_monai.handlers.ResultsWriter", "lap_monai.data.read_layout")
    assert not [name for name in files if "commands" in name or "packaging" in name or "experiments" in name]


def test_imports_in_expressions_are_followed() -> None:
    assert "lap_monai/losses/contrast.py" in package_files(['["$import lap_monai.losses as losses"]'])


def test_the_files_are_closed_under_import() -> None:
    """Every import of this package, wherever in a packed module, leads to a packed module."""
    files = package_files(['"lap_monai.handlers.ResultsWriter"', '"lap_monai.transforms.SurgicalAugmentation"'])
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files}
    for path in files.values():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lap_monai"):
                    assert node.module in modules, (path, node.module)


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ValueError, match=r"'lap_monai\.loses\.FocalLoss'.*no module 'loses'"):
        files_for("lap_monai.loses.FocalLoss")


@pytest.mark.parametrize(
    ("source", "packed"),
    [
        ('"lap_monai.losses.FocalLoss"', '"scripts.lap_monai.losses.FocalLoss"'),
        ('"$import lap_monai.data as data"', '"$import scripts.lap_monai.data as data"'),
        (
            '"$lap_monai.data.read_layout(@x, lap_monai.y.z)"',
            '"$scripts.lap_monai.data.read_layout(@x, scripts.lap_monai.y.z)"',
        ),
        ('"see python -m lap_monai phantom"', '"see python -m lap_monai phantom"'),
        ('"/data/lap_monai.old/x"', '"/data/lap_monai.old/x"'),
        ('"my_lap_monai.losses"', '"my_lap_monai.losses"'),
        ('"scripts.lap_monai.losses"', '"scripts.lap_monai.losses"'),
    ],
)
def test_names_in_configs(source: str, packed: str) -> None:
    assert pack_names(source) == packed


@pytest.mark.parametrize(
    ("source", "packed"),
    [
        ("from lap_monai import keys\n", "from scripts.lap_monai import keys\n"),
        ("from lap_monai.losses import focal as f\n", "from scripts.lap_monai.losses import focal as f\n"),
        ("import lap_monai\n", "import scripts.lap_monai as lap_monai\n"),
        ("import lap_monai.keys as k\n", "import scripts.lap_monai.keys as k\n"),
        ("import lap_monai.keys\n", "import scripts.lap_monai.keys, scripts.lap_monai as lap_monai\n"),
        ("import os, lap_monai.keys as k\n", "import os, scripts.lap_monai.keys as k\n"),
        ("if x: import lap_monai  # é\n", "if x: import scripts.lap_monai as lap_monai  # é\n"),
        ("from lap_monai_tools import x\n", "from lap_monai_tools import x\n"),
        ("import os\nfrom . import lap_monai\n", "import os\nfrom . import lap_monai\n"),
        ('text = "import lap_monai"\n', 'text = "import lap_monai"\n'),
        ("found = {'lap_monai': lap_monai.__version__}\n", "found = {'lap_monai': lap_monai.__version__}\n"),
    ],
)
def test_imports_in_sources(source: str, packed: str) -> None:
    assert pack_source(source) == packed


def test_an_import_over_several_lines_or_within_a_function_is_changed_in_place() -> None:
    source = textwrap.dedent(
        """
        from lap_monai.data import (
            a,  # kept
            b,
        )

        def late():
            from lap_monai.data import c
            return c
        """
    )
    assert pack_source(source) == source.replace("from lap_monai", "from scripts.lap_monai")


def test_what_the_imports_bind_stays_bound() -> None:
    """The packed statement, run against stand-ins, binds the names that the original binds."""

    def bound(source: str) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        return names

    for source in (
        "import lap_monai.keys",
        "import lap_monai",
        "import lap_monai.a.b as c, lap_monai.keys",
        "from lap_monai import x",
    ):
        assert bound(source) <= bound(pack_source(source))
        assert bound(pack_source(source)) - bound(source) <= {"scripts"}
