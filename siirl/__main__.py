"""``python -m siirl``: the command ``siirl``."""

import sys

from siirl.client.cli import main

sys.exit(main())
