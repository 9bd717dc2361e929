"""`python -m actsweep`: the command `actsweep`, as batch scripts call it."""

import sys

from actsweep.cli.main import main

sys.exit(main())
