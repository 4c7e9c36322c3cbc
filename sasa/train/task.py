"""What a training run needs to know about its task, such as classification or detection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sasa.train.config import RunConfig
from sasa.train.loaders import RunData
from sasa.train.weights import Metadata

Loss = Callable[[nn.Module, Any], tuple[Tensor, int]]
"""Returns the mean loss of a network on a batch, and the number of images."""


class Metrics(Protocol):
    """Metrics over all images of an evaluation, in all processes.

    Attributes:
        progress: Names of the metrics that the progress bar shows.
    """

    progress: ClassVar[tuple[str, ...]]

    def update(self, network: nn.Module, batch: Any) -> None:
        """Evaluate the network on a batch."""

    def compute(self) -> Mapping[str, Any]:
        """The metrics to log, over all batches and processes."""

    def reset(self) -> None:
        """Forget all batches."""

    def summary(self) -> dict[str, Any]:
        """The metrics as results.json holds them; after compute."""


class Task(Protocol):
    """A task opens the data, builds the network, has loss and metrics, and describes what was trained.

    Attributes:
        scores: Names of the validation metrics in metrics.csv, each with the name under which it is printed,
            or None if it is not printed. The first one selects the best checkpoint.
    """

    scores: ClassVar[Mapping[str, str | None]]

    @property
    def config(self) -> RunConfig:
        """The configuration."""

    def open_data(self) -> None:
        """Open and check the images."""

    @property
    def data(self) -> RunData:
        """The images, after open_data."""

    def build_network(self, *, initial: bool = True) -> None:
        """Build the network, with its initial weights unless those of a checkpoint follow (initial=False)."""

    @property
    def network(self) -> nn.Module:
        """The network to train, after build_network."""

    @property
    def metadata(self) -> Metadata:
        """The metadata of the weights file, after build_network."""

    @property
    def loss(self) -> Loss:
        """The training loss, after build_network."""

    def compile_network(self) -> None:
        """Apply torch.compile to the network, in place."""

    def metrics(self, images: Any) -> Metrics:
        """Metrics for an evaluation on validation or test images."""

    def describe(self) -> dict[str, Any]:
        """What was trained, on which data, and its cost, for results.json."""

    def scored_metadata(self, results: Mapping[str, Any]) -> Metadata:
        """The metadata with the scores on the test images."""

    def write_descriptions(self, network: nn.Module) -> None:
        """Write what other tools need beside the weights into the run folder."""
