"""`export`: what lands beside the weights, what the report says of it, and when it is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY, CommandLine, contents
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from lap_monai.files import read_json
from lap_monai.inference import EXPORT_FILES, Bundle, TorchEngine, file_sha256, open_engine
from lap_monai.packaging import ExportFrames, export, export_bundle


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """The run folder of a tiny training, which a test may fill."""
    return shutil.copytree(tiny_run, tmp_path / "trained run")


def check_record(run: Path, form: str) -> dict:
    """The record of an export, once its hashes are found to be those of the files."""
    record = read_json(run / "models" / f"export_{form}.json")
    assert record["files"] == {name: file_sha256(run / "models" / name) for name in EXPORT_FILES[form]}
    assert record["weights_sha256"] == file_sha256(run / "models" / "model.pt")
    return record


def test_without_data_the_float_forms_agree_with_eager_on_phantom_frames(cli: CommandLine, run: Path):
    forms = ["torchscript", "onnx", "openvino", "triton"]
    outcome = cli("export", run, "--to", *forms)
    assert outcome.status == 0, outcome.err
    for form in forms:
        record = check_record(run, form)
        parity = record["parity"]
        assert parity["max_abs_difference"] < 1e-3
        assert parity["label_agreement"] > 0.999
        assert parity["iou"] is None
        assert record["frames"] == {"origin": "phantom", "calibration": 0, "validation": 4}
        assert f"{form}: " in outcome.out
    assert not [name for name in contents(run / "models") if name.startswith(".")]


def test_torchscript_carries_metadata_and_config_where_monai_deploy_looks(cli: CommandLine, run: Path, repository):
    """MONAI Deploy's bundle operator reads `extra/metadata.json` and `extra/inference.json` of a `.ts`."""
    assert cli("export", run, "--to", "torchscript").status == 0
    path = run / "models" / "model.ts"
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    assert {"extra/metadata.json", "extra/inference.json"} <= names
    extra = {"metadata.json": "", "inference.json": ""}
    network = torch.jit.load(path, _extra_files=extra)
    bundle = repository / "bundles" / "cholecseg8k_contrastive"
    assert json.loads(extra["metadata.json"]) == read_json(bundle / "configs" / "metadata.json")
    config = json.loads(extra["inference.json"])
    assert config["network_def"]["features"] == TINY["backbone_def#features"]  # of this training, not of the bundle
    assert {"preprocessing", "postprocessing", "inferer"} <= set(config)
    batch = torch.rand(2, 3, 32, 64)
    torch.testing.assert_close(network(batch), open_engine("torch", Bundle.open(run), "cpu")(batch))


def test_with_data_the_report_tells_what_the_difference_costs(cli: CommandLine, run: Path, tiny_phantom: Path):
    outcome = cli("export", run, "--to", "onnx", "--data", tiny_phantom, "--frames", 3)
    assert outcome.status == 0, outcome.err
    record = check_record(run, "onnx")
    assert record["frames"]["origin"] == tiny_phantom.name
    assert record["parity"]["frames"] == 3
    mean = record["parity"]["mean_iou"]
    assert abs(mean["change"]) < 0.01
    known = [value for value in record["parity"]["iou"].values() if value["eager"] is not None]
    assert mean["eager"] == pytest.approx(np.mean([value["eager"] for value in known]))
    assert all(value["change"] == pytest.approx(value["exported"] - value["eager"]) for value in known)


@pytest.mark.slow
def test_int8_is_calibrated_on_training_patients_judged_on_others_and_used_by_its_engine(
    cli: CommandLine, run: Path, tiny_phantom: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[ExportFrames] = []
    monkeypatch.setattr(
        export,
        "export_bundle",
        lambda bundle, form, frames, allow: seen.append(frames) or export_bundle(bundle, form, frames, allow),
    )
    outcome = cli("export", run, "--to", "openvino-int8", "--data", tiny_phantom, "--frames", 5, "--allow-loss")
    assert outcome.status == 0, outcome.err
    record = check_record(run, "openvino-int8")
    assert record["frames"]["calibration"] == 5
    patients = [{row["video"] for row in part.rows} for part in (seen[0].calibration, seen[0].validation)]
    split = read_json(run / "split.json") if (run / "split.json").is_file() else None
    assert not patients[0] & patients[1], split
    assert b'"i8"' in (run / "models" / "model_int8.xml").read_bytes()
    bundle = Bundle.open(run)
    engine, eager = open_engine("openvino-int8", bundle, "cpu"), open_engine("torch", bundle, "cpu")
    batch = seen[0].validation[0]["image"][None, :, :32, :32]
    difference = (engine(batch) - eager(batch)).abs().max()
    assert 0 < difference < 0.3 * eager(batch).abs().max()


def spoil(monkeypatch: pytest.MonkeyPatch, change: float, agreement: float = 1.0) -> None:
    """Let every comparison come out like this, of files that hold nothing."""

    def write_form(bundle: Bundle, form: str, folder: Path, _frames: ExportFrames) -> TorchEngine:
        for name in EXPORT_FILES[form]:
            (folder / name).write_text(form)
        return TorchEngine(bundle.build_network())

    report = {
        "frames": 7,
        "max_abs_difference": 0.0,
        "label_agreement": agreement,
        "mean_iou": {"eager": 0.8, "exported": 0.8 + change, "change": change},
        "iou": {},
    }
    monkeypatch.setattr(export, "parity_report", lambda *_: report)
    monkeypatch.setattr(export, "_write_form", write_form)


@pytest.mark.parametrize("change", [-0.006, float("nan")])
def test_an_int8_form_that_loses_too_much_is_refused_unless_allowed(cli, run, tiny_phantom, monkeypatch, change):
    spoil(monkeypatch, change)
    before = contents(run / "models")
    words = ["export", run, "--to", "openvino-int8", "--data", tiny_phantom, "--frames", 2]
    assert "points of mean IoU on 7 validation frames, more than 0.5" in cli(*words).error
    assert contents(run / "models") == before
    assert cli(*words, "--allow-loss").status == 0
    check_record(run, "openvino-int8")


def test_an_int8_form_within_the_bound_is_kept(cli, run, tiny_phantom, monkeypatch):
    spoil(monkeypatch, -0.004)
    assert cli("export", run, "--to", "openvino-int8", "--data", tiny_phantom, "--frames", 2).status == 0


def test_a_form_that_is_another_network_is_refused_and_the_old_one_stays(cli, run, monkeypatch):
    assert cli("export", run, "--to", "onnx").status == 0
    before = contents(run / "models")
    spoil(monkeypatch, 0.0, agreement=0.9)
    assert "10.0% of the pixels another class" in cli("export", run, "--to", "onnx").error
    assert contents(run / "models") == before


def test_bad_input_is_one_line(cli: CommandLine, run: Path, tmp_path: Path, tiny_phantom: Path):
    assert "give --data" in cli("export", run, "--to", "openvino-int8").error
    assert "does not exist" in cli("export", tmp_path / "none", "--to", "onnx").error
    assert "--frames 0 is none" in cli("export", run, "--to", "onnx", "--frames", 0).error
    assert "does not exist" in cli("export", run, "--to", "onnx", "--data", tmp_path / "none").error
    (tmp_path / "bundle.zip").write_bytes(b"PK")
    assert "is an archive; unpack it" in cli("export", tmp_path / "bundle.zip", "--to", "onnx").error
    overlay = tmp_path / "other.json"
    overlay.write_text(json.dumps({"label_space": "cholecseg8k_13"}))
    words = ["--data", tiny_phantom, "--config", next(run.glob("config_*.json")), overlay]
    assert "has label space 'cholecseg8k_13'" in cli("export", run, "--to", "onnx", *words).error
    assert not list((run / "models").glob("export_*"))


# --- Triton ----------------------------------------------------------------------------------------------------------


def triton_message() -> type:
    """The part of Triton's `inference.ModelConfig` that an export uses; names, numbers and types are Triton's."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="triton_subset.proto", package="inference", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for number, name in enumerate(["TYPE_INVALID", "TYPE_BOOL", *(f"TYPE_UINT{b}" for b in (8, 16, 32, 64))]):
        kinds.value.add(name=name, number=number)
    kinds.value.add(name="TYPE_FP32", number=11)
    for name in ("ModelInput", "ModelOutput"):
        tensor = file.message_type.add(name=name)
        tensor.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
        data_type = {"type": field.TYPE_ENUM, "type_name": ".inference.DataType", "label": field.LABEL_OPTIONAL}
        tensor.field.add(name="data_type", number=2, **data_type)
        dims = 4 if name == "ModelInput" else 3
        tensor.field.add(name="dims", number=dims, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    file.message_type.add(name="ModelDynamicBatching")
    config = file.message_type.add(name="ModelConfig")
    config.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    config.field.add(name="platform", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    config.field.add(name="max_batch_size", number=4, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    for name, number, kind, label in (
        ("input", 5, "ModelInput", field.LABEL_REPEATED),
        ("output", 6, "ModelOutput", field.LABEL_REPEATED),
        ("dynamic_batching", 11, "ModelDynamicBatching", field.LABEL_OPTIONAL),
    ):
        config.field.add(name=name, number=number, type=field.TYPE_MESSAGE, type_name=f".inference.{kind}", label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def test_the_triton_repository_says_what_its_network_takes_and_gives(cli: CommandLine, run: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert cli("export", run, "--to", "triton").status == 0
    model = run / "models" / "triton" / "model"
    config = text_format.Parse((model / "config.pbtxt").read_text(), triton_message()())
    assert (config.name, config.platform) == (model.name, "onnxruntime_onnx")
    assert config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx")
    for declared, actual in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [entry.name for entry in declared] == [entry.name for entry in actual]
        free = [-1 if isinstance(side, str) else side for side in actual[0].shape]
        assert free[0] == -1  # the batch, which Triton leaves out of dims
        assert list(declared[0].dims) == free[1:] or list(declared[0].dims)[1:] == [-1, -1]
        assert declared[0].dims[0] == actual[0].shape[1]
        assert declared[0].data_type == 11
    batch = np.zeros((config.max_batch_size, 3, 32, 64), np.float32)
    assert session.run(["pred"], {"image": batch})[0].shape == (config.max_batch_size, 8, 32, 64)
