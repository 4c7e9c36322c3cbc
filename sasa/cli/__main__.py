"""The entry point of python -m sasa.cli, for example torchrun --nproc-per-node 8 -m -- sasa.cli train …"""

import sys

from sasa.cli import main

sys.exit(main())
