"""A trained classifier as a repository of the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from sasa.data.dataset_factory import is_path
from sasa.train import WeightsMetadata
from sasa.train.run_folder import RESULTS_FILE, TIMM_CONFIG_FILE, WEIGHTS_FILE
from sasa.train.weights import read_weights, write_weights

CARD_FILE = "README.md"


def write_repository(run: str | Path, folder: str | Path, name: str) -> None:
    """Write what a repository of a classifier contains: weights, timm's config.json, and a model card.

    Folders of this machine are left out: of the paths in the recipe, the last part is kept.

    Args:
        run: The folder of a finished run.
        folder: A folder, which is created; files of the same names are replaced.
        name: The name of the repository, "OWNER/NAME".

    Raises:
        FileNotFoundError: A file of the run is missing.
        ValueError: The run is not one of a classifier.
    """
    run, folder = Path(run), Path(folder)
    for file in (WEIGHTS_FILE, TIMM_CONFIG_FILE, RESULTS_FILE):
        if not (run / file).is_file():
            raise FileNotFoundError(f"run: expected the folder of a finished run with {file}, got {run}")
    state, metadata = read_weights(run, WeightsMetadata)
    recipe = None if metadata.recipe is None else _public(metadata.recipe)
    metadata = dataclasses.replace(metadata, recipe=recipe)
    results = json.loads((run / RESULTS_FILE).read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS_FILE, state, metadata)
    shutil.copyfile(run / TIMM_CONFIG_FILE, folder / TIMM_CONFIG_FILE)
    (folder / CARD_FILE).write_text(model_card(metadata, results, name), encoding="utf-8")


def push(run: str | Path, name: str, *, private: bool = False) -> str:
    """Create a repository of the Hugging Face Hub, if it does not exist, and upload a classifier to it.

    Args:
        run: The folder of a finished run.
        name: The repository, "OWNER/NAME".
        private: Whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        FileNotFoundError: A file of the run is missing.
        OSError: The Hub cannot be reached, or refuses; `hf auth login` logs in.
        ValueError: The run is not one of a classifier, or the name is none of a repository.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        write_repository(run, folder, name)
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload the classifier")
    return str(commit.commit_url)


def model_card(metadata: WeightsMetadata, results: dict[str, Any], name: str) -> str:
    """The text of a model card: what was trained, on which data, its accuracy and cost, and how to use it.

    Args:
        metadata: That of the weights.
        results: The content of results.json.
        name: The name of the repository.
    """
    recipe = metadata.recipe or {}
    data = recipe.get("data", {}).get("source", "unknown")
    channels, height, width = metadata.input_size
    score = {"type": "accuracy", "name": "Top-1 accuracy", "value": round(100 * results["top1"], 2)}
    head = {
        "library_name": "timm",
        "tags": ["image-classification", "timm", "sasa"],
        "model-index": [
            {
                "name": name.rpartition("/")[2],
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": data, "type": data},
                        "metrics": [score],
                    }
                ],
            }
        ],
    }
    rows = [
        ("network", f"`{metadata.model}`"),
        ("options", f"`{json.dumps(metadata.options)}`"),
        ("data", f"{data}, {results['training_images']:,} training images, {len(metadata.classes)} classes"),
        ("images", f"{height} × {width}, {channels} channel{'s' if channels > 1 else ''}"),
        ("top-1 accuracy", f"{results['top1']:.2%} of {results['images']:,} test images"),
        ("parameters", f"{results['parameters']:,}"),
        ("FLOPs per image", f"{results['flops']:,}"),
        ("training", f"{results['epochs']} epochs, {results['training_seconds']:.0f} s"),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"""---
{yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()}
---

# {name.rpartition("/")[2]}

An image classifier trained with sasa {metadata.sasa_version}, which implements local self-attention for
vision (Ramachandran et al., "Stand-Alone Self-Attention in Vision Models", 2019).

| | |
| :--- | :--- |
{table}

```python
import timm
import sasa.models  # pip install sasa-vision

model = timm.create_model("hf-hub:{name}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({{}}, model=model))
names = model.pretrained_cfg["label_names"]
```

## Recipe

```yaml
{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).strip()}
```
"""


def _public(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without the run folder, and with the last parts of paths only."""
    shown: dict[str, Any] = _last_parts({key: value for key, value in recipe.items() if key != "run"})
    for section, key in (("data", "source"), ("model", "weights")):
        value = shown.get(section, {}).get(key)
        if isinstance(value, str) and is_path(value):
            shown[section][key] = Path(value).name
    return shown


def _last_parts(value: Any) -> Any:
    """A value with the last part of each absolute path in it."""
    if isinstance(value, dict):
        return {key: _last_parts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_last_parts(item) for item in value]
    absolute = isinstance(value, str) and value.startswith(("/", "~"))
    return Path(value).name if absolute else value
