"""python -m sasa.cli, which torchrun can start: torchrun --nproc-per-node 8 -m sasa.cli train …"""

import sys

from sasa.cli import main

sys.exit(main())
