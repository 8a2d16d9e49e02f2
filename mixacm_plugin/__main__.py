"""``python -m mixacm_plugin`` is the command ``mixacm``, e.g. for torchrun."""

import sys

from .cli import main

sys.exit(main())
