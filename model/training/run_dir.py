"""Manage a run's folder: its settings, checkpoints, logs and model.

RUN_DIR/
  run.json                      config, dataset digest, number of devices (which affects the weights), inputs from other
                                runs, versions, machines: written before the first step
  checkpoints/last.ckpt         the state that a stopped run resumes from
  checkpoints/best.ckpt         the epoch with the highest validation mean AP
  logs/                         CSV and TensorBoard
  model/                        model.safetensors and config.json: the result; its presence means the run is finished
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.artifacts.saved_model import is_model
from model.hardware import Hardware
from model.training.config import TrainConfig, complete_document
from shards import storage
from shards.format.json_document import parse_document
from shards.host import installed_versions

FORMAT_VERSION = 1
_LIBRARIES = ("torch", "timm", "lightning", "nvidia-dali-cuda130")


@dataclass(frozen=True, slots=True)
class RunDir:
    """The folder of one run; any fsspec URL."""

    url: str

    @property
    def last_url(self) -> str:
        """The newest checkpoint."""
        return storage.join_url(self.url, "checkpoints", "last.ckpt")

    @property
    def best_url(self) -> str:
        """The checkpoint that becomes the model."""
        return storage.join_url(self.url, "checkpoints", "best.ckpt")

    @property
    def model_url(self) -> str:
        """The result."""
        return storage.join_url(self.url, "model")

    @property
    def is_finished(self) -> bool:
        """Whether the model was written."""
        return is_model(self.model_url)

    @property
    def is_started(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return storage.exists(self.last_url)


def find_run_dir(
    url: str, config: TrainConfig, dataset_digest: str, hardware: Hardware, inputs: Mapping[str, str]
) -> RunDir:
    """Return the folder if it is new or of this run, without writing; takes the arguments of `claim_run_dir`.

    Raises:
        ValueError: the folder belongs to another run.
    """
    return _find(url, config, dataset_digest, hardware, inputs)[0]


def claim_run_dir(
    url: str, config: TrainConfig, dataset_digest: str, hardware: Hardware, inputs: Mapping[str, str]
) -> RunDir:
    """Claim the folder for this run and return it: a new one, or one that the same command began.

    Called after all other checks, since a claimed folder accepts no other settings.

    Args:
        url: of the folder.
        config: what to compute.
        dataset_digest: of the training data.
        hardware: where.
        inputs: from other runs, name -> id or digest of its content.

    Raises:
        ValueError: the folder belongs to another run.
    """
    run_dir, document = _find(url, config, dataset_digest, hardware, inputs)
    machines: list[dict[str, Any]] = document["machines"]
    if hardware.to_json() not in machines:
        document["machines"] = [*machines, hardware.to_json()]
        storage.write_bytes(_run_url(run_dir), (json.dumps(document, indent=1) + "\n").encode())
    return run_dir


def _find(
    url: str, config: TrainConfig, dataset_digest: str, hardware: Hardware, inputs: Mapping[str, str]
) -> tuple[RunDir, dict[str, Any]]:
    """Return the folder and the content of its `run.json`, read or new."""
    run_dir = RunDir(storage.normalise_url(url))
    # Runs of earlier releases record neither the number of devices nor inputs.
    defaults: dict[str, Any] = {"num_devices": hardware.num_devices, **inputs}
    settings = {"config": config.to_json(), "dataset_digest": dataset_digest, **defaults}
    document = defaults | (_read(_run_url(run_dir)) or _new_document(settings))
    document["config"] = complete_document(document.get("config") or {})
    if differences := list_differences({name: document.get(name) for name in settings}, settings):
        raise ValueError(
            f"run folder must be new or of the same run, got one with {'; '.join(differences)} ({run_dir.url}); "
            f"name another --output, or repeat the command that began it"
        )
    return run_dir, document


def _run_url(run_dir: RunDir) -> str:
    return storage.join_url(run_dir.url, "run.json")


def _new_document(settings: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT_VERSION, **settings, "versions": installed_versions(*_LIBRARIES), "machines": []}


def _read(url: str) -> dict[str, Any] | None:
    if not storage.exists(url):
        return None
    return parse_document(storage.read_bytes(url), FORMAT_VERSION, "run.json", url)


def list_differences(found: Any, expected: Any, name: str = "") -> list[str]:
    """Describe the differences of two JSON documents, e.g. `loss.threshold 0.1 rather than 0.05`."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return [
            line
            for key in sorted(found.keys() | expected.keys())
            for line in list_differences(found.get(key), expected.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if found == expected else [f"{name.removeprefix('config.')} {found!r} rather than {expected!r}"]
