from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import lap_monai
from lap_monai.__main__ import COMMANDS, main
from lap_monai.checks import UserError
from lap_monai.commands import check


def help_of(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys=capsys)
    assert text.startswith("usage: python -m lap_monai")
    for command, purpose in COMMANDS.items():
        assert command in text
        assert purpose.split()[0] in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys=capsys)
    assert text.startswith(f"usage: python -m lap_monai {command}")
    assert COMMANDS[command][1:] in " ".join(text.split())


def test_every_module_of_commands_is_a_command(repository: Path) -> None:
    modules = {path.stem for path in (repository / "lap_monai" / "commands").glob("[a-z]*.py")}
    assert modules == set(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == lap_monai.__version__


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["chek", "DIR"], "invalid choice: 'chek'"),
        (["check"], "required: DIR"),
        (["check", "DIR", "--jsn", "x"], "unrecognized arguments: --jsn x"),
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def raising(error: BaseException):
    def command(_args: object) -> int:
        raise error

    return command


@pytest.mark.parametrize("error", [UserError("wrong\n  in two lines"), FileNotFoundError(2, "No such file", "a.png")])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_error_is_one_line_unless_the_traceback_is_wanted(
    error: Exception, debug: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "main", raising(error))
    if debug:
        for words in ([*debug, "check", "DIR"], ["check", "DIR", *debug]):
            with pytest.raises(type(error)):
                main(words)
        return
    assert main(["check", "DIR"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {' '.join(str(error).split())}\n"


def test_an_error_that_quotes_a_whole_file_is_cut_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "main", raising(UserError("The key " + "x" * 100_000 + " is unknown.")))
    assert main(["check", "anywhere"]) == 1
    assert 1000 < len(capsys.readouterr().err) < 3000


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "main", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["check", "DIR"])


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "main", raising(KeyboardInterrupt()))
    assert main(["check", "DIR"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_warning_is_one_line_and_later_ones_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def warn(_args: object) -> int:
        shown.append(warnings.formatwarning(UserWarning("two\nlines"), UserWarning, "file.py", 7))
        return 0

    monkeypatch.setattr(check, "main", warn)
    before = warnings.formatwarning
    assert main(["check", "DIR"]) == 0
    assert shown == ["warning: two lines\n"]
    assert warnings.formatwarning is before


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["check", "--help"], ["run", "--help"], ["demo", "--help"]]
)
def test_what_needs_no_network_does_not_wait_for_torch(words: list[str]) -> None:
    """Importing torch and MONAI takes seconds."""
    program = (
        "import sys\n"
        "from lap_monai.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'torch', 'monai', 'ignite', 'matplotlib', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_lap_monai_returns_the_status(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lap_monai", "check", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
