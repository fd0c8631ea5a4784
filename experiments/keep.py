"""Keep a run's tables beside the code: ``python experiments/keep.py runs/tables/NAME [FOLDER]``.

They go into ``experiments/NAME/``; ``ctrlrec/reporting/kept.py`` says what lies there and what is refused.
"""

import sys
from pathlib import Path

from ctrlrec.reporting.kept import keep
from ctrlrec.runtime.printing import command


@command
def main() -> None:
    print(keep(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent))


if __name__ == "__main__":
    sys.exit(main())
