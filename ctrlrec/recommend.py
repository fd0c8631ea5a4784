"""``python -m ctrlrec.recommend`` is ``python -m ctrlrec recommend``: see :mod:`ctrlrec.app.recommend`."""

import sys

from ctrlrec.app.recommend import main

if __name__ == "__main__":
    sys.exit(main())
