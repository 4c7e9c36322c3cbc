"""The networks for torch.hub, such as torch.hub.load(REPOSITORY, "sasa_resnet50", num_classes=10)."""

from timm.models import list_models, model_entrypoint

import sasa.models  # noqa: F401 registers the networks

dependencies = ["timm", "torch"]

globals().update({name: model_entrypoint(name) for name in list_models(module="sasa_resnet")})
