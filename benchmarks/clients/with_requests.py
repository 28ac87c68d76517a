"""requests in a pool of processes, a session-less GET each: how the published notebook downloads."""

import sys
from multiprocessing import Pool
from pathlib import Path

import requests

PROCESSES = 4


def fetch(job: tuple[str, str]) -> None:
    """Download one cutout."""
    url, path = job
    Path(path).write_bytes(requests.get(url).content)


if __name__ == "__main__":
    listing, out, _connections = sys.argv[1:]
    pairs = (line.rstrip("\n").split("\t") for line in Path(listing).open())
    jobs = [(url, f"{out}/{name}") for url, name in pairs]
    with Pool(PROCESSES) as pool:
        for _ in pool.imap(fetch, jobs):
            pass
