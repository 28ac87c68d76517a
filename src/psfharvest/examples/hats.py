"""
From a harvest to a HATS catalogue, cutouts included: ``python -m psfharvest.examples.hats FOLDER OUT``.

Needs ``pip install 'psfharvest[hats]'``. LSDB and ``hats.read_hats`` read ``OUT/psf``. Each
row's place is ``_healpix_29``, which an export has from the WCS of the cutout; cutouts without a WCS (raw ones) are
left out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from psfharvest import Harvest
from psfharvest.export import export


def main(folder: Path, out: Path, *, n_workers: int = 2) -> None:
    """Export the calibrated cutouts of one harvest to Parquet, and partition that on the sky, under ``OUT/psf``."""
    from dask import distributed  # noqa: PLC0415 - comes with hats-import
    from hats_import.catalog.arguments import ImportArguments  # noqa: PLC0415
    from hats_import.pipeline import pipeline_with_client  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as work:
        stars = Path(work, "stars.parquet")
        export(Harvest(folder).select(suffix=["flt", "flc", "c0m"]), stars)
        task = ImportArguments(
            output_path=str(out),
            output_artifact_name="psf",
            input_file_list=[str(stars)],
            file_reader="parquet",
            use_healpix_29=True,
            ra_column="ra",
            dec_column="dec",
            catalog_type="object",
        )
        with distributed.Client(n_workers=n_workers, threads_per_worker=1) as client:  # type: ignore[no-untyped-call]
            pipeline_with_client(task, client)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
