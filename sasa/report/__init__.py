"""Tables and pictures from run folders and arrays; it imports no model."""

from sasa.report.attention_picture import draw_attention
from sasa.report.detection_picture import DrawnBoxes, draw_box_rows, draw_boxes
from sasa.report.learning_curves import draw_learning_curves
from sasa.report.sweep_report import write_report
from sasa.report.sweeps import read_sweeps

__all__ = [
    "DrawnBoxes",
    "draw_attention",
    "draw_box_rows",
    "draw_boxes",
    "draw_learning_curves",
    "read_sweeps",
    "write_report",
]
