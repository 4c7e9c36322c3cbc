"""RetinaNet with convolution or attention (§4.2, App. A.3, Table 2), and COCO's evaluation."""

from sasa.detection.coco_evaluation import CocoEvaluation, CocoMetrics
from sasa.detection.flops import detector_cost
from sasa.detection.raw_outputs import RawOutputs, detections_from
from sasa.detection.retinanet import RetinaNet, create_retinanet

__all__ = [
    "CocoEvaluation",
    "CocoMetrics",
    "RawOutputs",
    "RetinaNet",
    "create_retinanet",
    "detections_from",
    "detector_cost",
]
