"""parfive: one queue, its own connection limit, one piece a file."""

import sys
from pathlib import Path

from parfive import Downloader

if __name__ == "__main__":
    listing, out, connections = sys.argv[1:]
    downloader = Downloader(max_conn=int(connections), max_splits=1, progress=False)
    for line in Path(listing).open():
        url, name = line.rstrip("\n").split("\t")
        downloader.enqueue_file(url, path=out, filename=name)
    results = downloader.download()
    sys.exit(len(results.errors) > 0)
