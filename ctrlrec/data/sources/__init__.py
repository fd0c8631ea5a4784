"""Sources of interactions, one file each; ``SOURCES`` knows them by the name in ``dataset.source``."""

from ctrlrec.data.sources import movielens_100k, records
from ctrlrec.data.sources.base import Source

SOURCES: dict[str, Source] = {
    "movielens_100k": movielens_100k.SOURCE,
    "records": records.SOURCE,
}
