"""``siirl doctor``."""

import sys

from siirl.client.doctor import main

sys.exit(main())
