"""sasa detect, a group of commands."""

HELP = "train a detector (RetinaNet), evaluate it, detect in images"
COMMANDS = ("train", "eval", "predict")
