"""Hold the names that `model` exports, and that importing it is cheap."""

import subprocess
import sys

import model

NAMES = [
    "AttentionConfig",
    "Evaluation",
    "Hardware",
    "InputConfig",
    "LoadedModel",
    "ModelConfig",
    "NETWORKS",
    "RECIPES",
    "Scorer",
    "ScoringNetwork",
    "TrainConfig",
    "TrainResult",
    "average_precision",
    "build_network",
    "detect_hardware",
    "evaluate",
    "load_model",
    "points_hit",
    "roc_auc",
    "save_model",
    "train",
]


def test_the_exported_names_are_these_and_can_be_imported():
    assert sorted(model.__all__) == sorted(NAMES)
    assert {name: getattr(model, name) is not None for name in NAMES} == dict.fromkeys(NAMES, True)
    assert set(NAMES) <= set(dir(model))
    assert not hasattr(model, "no_such_name")


def test_importing_the_package_loads_no_heavy_library():
    script = "import sys, model; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "nvidia", "apache_beam", "numpy", "lightning", "timm"} & set(loaded)


def test_metrics_of_arrays_load_no_torch():
    script = "import sys; from model import average_precision, evaluate, points_hit; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
