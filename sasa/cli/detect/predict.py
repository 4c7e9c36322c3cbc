"""sasa detect predict."""

HELP = ""
