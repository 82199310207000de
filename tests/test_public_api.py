"""Hold the names that the three packages export, and that importing them loads no heavy library."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import shards
from tests.shards.by_hand import small_dataset

EXPORTED = {
    "shards": """
        QUARANTINE_SCHEMA Box ClassSet Dataset Predictions load_class_set open_dataset open_predictions open_webdataset
        predictions_schema read_image samples_schema
    """,
    "model": """
        NETWORKS RECIPES AttentionConfig Evaluation Hardware InputConfig LoadedModel ModelConfig Scorer ScoringNetwork
        TrainConfig TrainResult average_precision build_network detect_hardware evaluate load_model points_hit roc_auc
        save_model train
    """,
    "pipelines": """
        AlarmsConfig CalibrateConfig CardConfig ConvertConfig DriftConfig EvaluateConfig ImportPredictionsConfig
        ProjectConfig ReshardConfig ReviewConfig ScoreConfig SynthConfig TrainJobConfig VerifyConfig
        calibrate_thresholds convert_corpus generate_corpus import_predictions project_items reshard_datasets
        review_labels score_datasets train_folds train_network verify_folder watch_drift write_alarms
        write_card write_report
    """,
}
HEAVY = {"apache_beam", "fsspec", "lightning", "numpy", "nvidia", "pyarrow", "timm", "torch", "webdataset"}


def run_python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("package", EXPORTED)
def test_the_exported_names_are_these_and_can_be_imported(package):
    module = importlib.import_module(package)
    names = EXPORTED[package].split()
    assert sorted(vars(module)["__all__"]) == sorted(names)
    assert set(names) <= set(dir(module))
    assert not any(isinstance(getattr(module, name), ModuleType) for name in names)


@pytest.mark.parametrize("package", EXPORTED)
def test_an_unknown_name_is_an_attribute_error(package):
    module: object = importlib.import_module(package)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", EXPORTED)
def test_importing_a_package_loads_no_heavy_library(package):
    script = f"import sys, {package}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    assert set(run_python(script).split()) & HEAVY == set()


def test_metrics_of_arrays_load_no_torch():
    script = "import sys; from model import average_precision, evaluate, points_hit; print('torch' in sys.modules)"
    assert run_python(script) == "False"


def test_recipes_and_their_losses_load_neither_dali_nor_lightning_nor_timm():
    script = "import sys; from model import RECIPES; print(*{name.partition('.')[0] for name in sys.modules})"
    assert set(run_python(script).split()) & {"nvidia", "lightning", "timm"} == set()


def test_a_command_is_imported_as_a_module():
    from pipelines import convert, score, verify

    assert all(isinstance(module, ModuleType) for module in (convert, score, verify))


def test_an_image_is_read_by_its_key(tmp_path):
    dataset = small_dataset(tmp_path)
    assert shards.read_image(dataset, "P00003").startswith(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"key must be that of a sample, got 'P99999' \(.*\)"):
        shards.read_image(dataset, "P99999")
