"""The costs in a run's results."""

import timm

from sasa.models import conv_baseline, cost
from sasa.train.classification.costs import costs
from sasa.train.classification.weights import WeightsMetadata


def metadata(model: str, **options: object) -> WeightsMetadata:
    return WeightsMetadata(
        model=model, options=dict(options), classes=["a", "b"], input_size=[1, 20, 24], mean=[0.5], std=[0.5]
    )


def test_cost_of_a_network_and_its_baseline() -> None:
    described = metadata("sasa_resnet26", width_mult=0.125, num_heads=2, stem_stride=1)
    network = described.create_model()
    baseline = conv_baseline("sasa_resnet26", num_classes=2, in_chans=1, width_mult=0.125, stem_stride=1)
    assert costs(network, described) == {
        "parameters": cost(network, (1, 20, 24)).parameters,
        "flops": cost(network, (1, 20, 24)).flops,
        "baseline_parameters": cost(baseline, (1, 20, 24)).parameters,
        "baseline_flops": cost(baseline, (1, 20, 24)).flops,
    }


def test_of_other_networks_the_parameters_are_counted() -> None:
    network = timm.create_model("test_resnet", num_classes=2, in_chans=1)
    expected = sum(parameter.numel() for parameter in network.parameters())
    assert costs(network, metadata("test_resnet")) == {"parameters": expected}
