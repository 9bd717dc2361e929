"""What the product is measured against, and how long it takes; not part of the package.

python -m benchmarks --only training --out FILE.json
"""

import sys
from pathlib import Path

# A SLURM cluster and a W&B server to measure against are among the tests' own tools.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
