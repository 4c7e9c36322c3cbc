"""Text, tables and pictures of results, made from run folders and arrays; no model is imported."""

from sasa.report.attention_picture import draw_attention
from sasa.report.confusion import draw_confusion, write_accuracy_by_class, write_confusion
from sasa.report.detection_picture import DrawnBoxes, draw_box_rows, draw_boxes
from sasa.report.learning_curves import draw_learning_curves
from sasa.report.mistakes_picture import draw_mistakes
from sasa.report.predictions import write_predictions_csv, write_predictions_json
from sasa.report.sweep_report import write_report
from sasa.report.sweeps import read_sweeps
from sasa.report.text import format_classification, format_comparison, format_data, format_detection

__all__ = [
    "DrawnBoxes",
    "draw_attention",
    "draw_box_rows",
    "draw_boxes",
    "draw_confusion",
    "draw_learning_curves",
    "draw_mistakes",
    "format_classification",
    "format_comparison",
    "format_data",
    "format_detection",
    "read_sweeps",
    "write_accuracy_by_class",
    "write_confusion",
    "write_predictions_csv",
    "write_predictions_json",
    "write_report",
]
