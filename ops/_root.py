"""Where the project is. A program that imports this can import the parts in scripts/ and what is in ops/."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "scripts"), str(ROOT / "ops")]
