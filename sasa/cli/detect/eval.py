"""sasa detect eval."""

HELP = ""
