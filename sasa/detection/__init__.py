"""Detection: COCO's evaluation."""

from sasa.detection.coco_evaluation import CocoEvaluation, CocoMetrics

__all__ = ["CocoEvaluation", "CocoMetrics"]
