"""sasa detect, the commands for detectors."""

HELP = "train, evaluate and use a detector (RetinaNet)"
COMMANDS = ("train", "eval", "predict")
