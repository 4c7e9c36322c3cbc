"""sasa predict, attention, tables, models and version."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sasa
from sasa.cli import main
from sasa.data import (
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    ImageDataset,
    create_dataset,
    load_fashion_mnist,
)
from sasa.train import (
    DataConfig,
    TrainConfig,
    WeightsMetadata,
    first_image_per_class,
    load_images,
    load_weights,
    save_weights,
)
from sasa.train.config_files import plain


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    metadata = WeightsMetadata(
        model="sasa_resnet26",
        options={"width_mult": 0.125, "num_heads": 2, "kernel_size": 3},
        classes=list(FASHION_MNIST_CLASSES),
        input_size=[1, 28, 28],
        mean=list(FASHION_MNIST_MEAN),
        std=list(FASHION_MNIST_STD),
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, metadata.create_model(), metadata)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "boot.png"
    Image.fromarray(load_fashion_mnist("test")[0][0]).save(path)
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_predict_prints_the_top_five_with_their_probabilities(
    weights: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(picture), str(picture), "--run", str(weights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == lines[6:]
    assert lines[0] == str(picture)
    network, metadata = load_weights(weights)
    with torch.inference_mode():
        probabilities = network(load_images([picture], metadata)[0]).softmax(1)[0]
    top = probabilities.topk(5)
    expected = [
        f"{value:.2%}  {FASHION_MNIST_CLASSES[index]}"
        for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]
    assert [line.strip() for line in lines[1:6]] == expected


def test_predict_takes_more_images_than_a_batch(
    weights: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(paths: list[str], metadata: WeightsMetadata) -> Any:
        sizes.append(len(paths))
        return load_images(paths, metadata)

    monkeypatch.setattr("sasa.train.load_images", counted)
    assert main(["predict", *[str(picture)] * 65, "--run", str(weights)]) == 0
    assert capsys.readouterr().out.splitlines().count(str(picture)) == 65
    assert sizes == [32, 32, 1]


def test_built_in_weights_are_the_default(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(picture)]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("Ankle boot")
    out = tmp_path / "attention.png"
    assert main(["attention", str(picture), "--out", str(out)]) == 0
    assert out.exists()
    assert main(["eval", "--split", "test"]) == 0
    assert "on 2000 images" in capsys.readouterr().out


def test_no_folder_for_the_picture(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", str(picture), "--out", str(tmp_path / "no" / "a.png")]) == 2
    assert f"--out: there is no folder {tmp_path / 'no'}; make it first" in capsys.readouterr().err


def test_images_are_shown_as_they_are(weights: Path, picture: Path) -> None:
    """The picture to draw on holds the file's pixels, the batch their normalized values."""
    _, metadata = load_weights(weights)
    batch, pixels = load_images([picture], metadata)
    original = torch.tensor(load_fashion_mnist("test")[0][0]) / 255
    torch.testing.assert_close(torch.tensor(pixels[0]), original, rtol=0, atol=1e-6)
    mean, std = FASHION_MNIST_MEAN[0], FASHION_MNIST_STD[0]
    torch.testing.assert_close(batch[0, 0], (original - mean) / std, rtol=0, atol=1e-5)


def test_one_test_image_of_each_class(weights: Path) -> None:
    data = create_dataset("fashion-mnist", "test")
    assert isinstance(data, ImageDataset)
    batch, pixels, captions = first_image_per_class(load_weights(weights)[1], data)
    assert captions == list(FASHION_MNIST_CLASSES)
    images, labels = load_fashion_mnist("test")
    for label, pixel in enumerate(pixels):
        first = images[labels == label][0]
        torch.testing.assert_close(torch.tensor(pixel), torch.tensor(first) / 255, rtol=0, atol=1e-6)
    assert batch.shape == (10, 1, 28, 28)


def test_of_no_more_classes_than_asked_for_is_an_image_read(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = create_dataset("fashion-mnist", "test")
    assert isinstance(data, ImageDataset)
    read: list[int] = []
    load = data.source.load
    monkeypatch.setattr(data.source, "load", lambda index: read.append(index) or load(index))
    batch, pixels, captions = first_image_per_class(load_weights(weights)[1], data, 3)
    assert captions == list(FASHION_MNIST_CLASSES[:3])
    assert len(batch) == len(pixels) == len(read) == 3


def test_attention_draws_chosen_layers_and_heads(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps.png"
    base = ["attention", str(picture), "--run", str(weights), "--out", str(out)]
    assert main([*base, "--layers", "layer1.0.spatial"]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    one = size(out)
    assert main([*base, "--layers", "stem", "layer1.0.spatial", "--heads", "0", "1"]) == 0
    assert size(out)[0] > 2 * one[0]


def test_attention_defaults_to_the_built_in_images(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the weights do not say what they were trained on and their classes are these."""
    out = tmp_path / "maps.png"
    assert main(["attention", "--run", str(weights), "--out", str(out), "--query", "0.2", "0.7"]) == 0
    width, height = size(out)
    assert height > 1.4 * width  # ten rows, six columns
    assert capsys.readouterr().out == f"data: fashion-mnist, split test\nwrote {out}\n"


def foreign(path: Path, recipe: dict[str, Any] | None) -> str:
    """Weights of two classes of 16 × 16 color images."""
    options = {"width_mult": 0.125, "num_heads": 2, "kernel_size": 3}
    metadata = WeightsMetadata(
        "sasa_resnet26", options, ["cat", "dog"], [3, 16, 16], [0.5] * 3, [0.25] * 3, recipe=recipe
    )
    save_weights(path, metadata.create_model(), metadata)
    return str(path)


def test_attention_takes_the_data_that_the_weights_were_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own split, and as it treats broken images."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / "exam" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / "exam" / name / "1.png")
    (tmp_path / "images" / "exam" / "cat" / "0.png").write_bytes(b"broken")
    source, out = str(tmp_path / "images"), tmp_path / "maps.png"
    data = DataConfig(source, test_split="exam", on_broken="skip")
    weights = foreign(tmp_path / "pets.safetensors", plain(TrainConfig(data=data)))
    assert main(["attention", "--run", weights, "--out", str(out)]) == 0
    assert f"data: {source}, split exam\n" in capsys.readouterr().out
    width, height = size(out)
    assert width > 2 * height  # two rows, six columns


def test_attention_shows_no_network_images_of_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "maps.png")
    weights = foreign(tmp_path / "unsaid.safetensors", None)
    assert main(["attention", "--run", weights, "--out", out]) == 2
    assert "do not say what they were trained on, and have other classes" in capsys.readouterr().err
    gone = plain(TrainConfig(data=DataConfig(str(tmp_path / "gone"))))
    weights = foreign(tmp_path / "gone.safetensors", gone)
    assert main(["attention", "--run", weights, "--out", out]) == 2
    assert "gone', which is no file or folder here; give image files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "layer9"], "did you mean 'layer4.0.spatial'"),
        (["--heads", "7"], "expected 0 to"),
        (["--query", "2", "0"], "expected row and column in [0, 1]"),
    ],
)
def test_attention_errors(
    weights: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "maps.png")
    assert main(["attention", "--run", str(weights), "--out", out, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_predict_names_the_missing_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "missing.png", "--run", str(weights)]) == 2
    assert "missing.png" in capsys.readouterr().err


def test_tables_prints_the_tables_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--table", "6"]) == 0
    out = capsys.readouterr().out
    assert "Table 6." in out
    assert "Table 1." not in out
    assert "16.78" in out


def test_tables_prints_the_detectors_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sasa.detection.paper_table.render", lambda: "Table 2.")
    assert main(["tables", "--detection"]) == 0
    assert capsys.readouterr().out == "Table 2.\n"
    assert main(["tables", "--detection", "--table", "1"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_tables_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--table", "2"]) == 2
    error = capsys.readouterr().err
    assert "expected one of [1, 3, 4, 5, 6, 7], got 2" in error
    assert "sasa tables --detection" in error


def test_models_lists_all_nine_with_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert "sasa_resnet50_conv       25.56 M parameters, 8.22 B FLOPs" in lines


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert f"sasa {sasa.__version__}, torch {torch.__version__}" in out
    assert "backends: cpu, triton, reference\nCPU kernels: " in out
    assert f", {torch.cuda.device_count()} CUDA device" in out.splitlines()[-1]
