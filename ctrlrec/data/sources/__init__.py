"""Sources of interactions, one file each; ``SOURCES`` knows them by the name in ``dataset.source``."""

from ctrlrec.data.sources import amazon, movielens_1m, movielens_100k, movielens_csv, records, steam
from ctrlrec.data.sources.base import Source

SOURCES: dict[str, Source] = {
    "amazon": amazon.SOURCE,
    "movielens_100k": movielens_100k.SOURCE,
    "movielens_1m": movielens_1m.SOURCE,
    "movielens_csv": movielens_csv.SOURCE,
    "records": records.SOURCE,
    "steam": steam.SOURCE,
}
