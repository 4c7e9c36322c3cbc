"""The weights that come with sasa."""

from __future__ import annotations

import pytest
import torch

from sasa.train import BUILT_IN_WEIGHTS, evaluate, load_config, load_weights
from sasa.train.classification.weights import start_from


def test_accuracy_is_what_the_file_says() -> None:
    _, about = load_weights(BUILT_IN_WEIGHTS)
    assert about.accuracy is not None
    # Other kernels sum in another order, which may turn an image or two of 2,000.
    assert evaluate(BUILT_IN_WEIGHTS)["top1"] == pytest.approx(about.accuracy, abs=0.001)


def test_they_have_a_name() -> None:
    network, about = load_weights("built-in")
    same, about_the_file = load_weights(BUILT_IN_WEIGHTS)
    assert about == about_the_file
    fresh = about.create_model()
    start_from("built-in", fresh, about.classes)
    for key, value in same.state_dict().items():
        assert torch.equal(network.state_dict()[key], value)
        assert torch.equal(fresh.state_dict()[key], value)


def test_file_is_small_and_names_its_recipe() -> None:
    assert BUILT_IN_WEIGHTS.stat().st_size <= 2_000_000
    _, about = load_weights(BUILT_IN_WEIGHTS)
    recipe = load_config("recipes/built_in.yaml")
    assert about.recipe is not None
    assert about.recipe["seed"] == recipe.seed
    assert about.recipe["model"]["options"] == about.options == recipe.model.options
    assert about.recipe["optimizer"]["epochs"] == recipe.optimizer.epochs
