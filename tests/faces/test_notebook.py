"""The published notebook, its import line changed and nothing else, in a real Jupyter kernel."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from harness import HAS_TAR_FILTERS, check_every_file, rows_of
from psfharvest.simulator import Settings, Simulator

CELLS = [
    """
import os
import tarfile

import numpy as np
import matplotlib.pyplot as plt
from astropy.io import fits

from psfharvest import mast_api_psf
""",
    """
detector = 'UVIS'
center_min_max = mast_api_psf.set_min_max(100, 102)
center_min_max
""",
    """
parameters = {
    'psf_x_center': center_min_max,
    'psf_y_center': center_min_max,
    'n_sat_pixels': ['0']
}
filts = mast_api_psf.set_filters(parameters)
filts
""",
    """
columns = ['id', 'rootname', 'filter', 'x_cal', 'y_cal', 'x_raw', 'y_raw', 'chip', 'qfit', 'subarray']
obs = mast_api_psf.mast_query_psf_database(detector=detector, filts=filts, columns=columns)
print(f'Number of sources queried: {len(obs)}')
""",
    """
file_suffix = ['flt']
dataURIs = mast_api_psf.make_dataURIs(obs, detector=detector, file_suffix=file_suffix)
""",
    """
dataURI = dataURIs[0]
filename = dataURI.split('/')[-1]
filename_cutout = mast_api_psf.download_request_file([dataURI, filename])
filename_cutout
""",
    """
filename_bundle = mast_api_psf.download_request_bundle(dataURIs, filename='mastDownload.tar.gz')
filename_bundle
""",
    """
with tarfile.open(filename_bundle, 'r:gz') as tar:
    path_mast = tar.getnames()[0]
    print(f'Path to MAST PSF Cutouts: {path_mast}')
    tar.extractall(filter='data')
"""
    if HAS_TAR_FILTERS
    else """
with tarfile.open(filename_bundle, 'r:gz') as tar:
    path_mast = tar.getnames()[0]
    print(f'Path to MAST PSF Cutouts: {path_mast}')
    tar.extractall()
""",
    "mast_api_psf.download_request_pool(dataURIs)",
    "dataURLs = mast_api_psf.convert_dataURIs_to_dataURLs(dataURIs)",
    """
dataURL = dataURLs[0]
cutout_URL = fits.getdata(dataURL)
""",
    """
cutouts = mast_api_psf.extract_cutouts_pool(dataURLs)
print(f'Number of cutouts: {len(cutouts)}')
""",
    "cutout_URI = fits.getdata(filename_cutout)",
    """
file = os.path.basename(filename_cutout)
plt.title(file)
plt.imshow(np.log10(cutout_URI), origin='lower', cmap='gray')
plt.show()
""",
    """
diff = (cutout_URI != cutout_URL).sum()
print(f'There are {diff} different pixels.')
""",
]
README = (Path(__file__).parents[2] / "README.md").read_text()
BARS = {4, 8, 9, 11}
"""The cells that show a progress bar."""
FOLDER = r"MAST_\d{4}-\d\d-\d\dT\d{4}"
QUERY = """
import asyncio, os, threading
from psfharvest import Query, blocking, mast_api_psf
asyncio.get_running_loop()
with blocking.Archive(os.environ['PSFHARVEST_ARCHIVE']) as archive:
    dataURIs = mast_api_psf.make_dataURIs(archive.query(Query('UVIS', limit=5000)), 'UVIS', ['flt'])
os.getpid()
"""


class Kernel:
    """A Jupyter kernel, whose cells are run one after another."""

    def __init__(self, client: NotebookClient) -> None:
        self.client = client

    def run(self, source: str) -> tuple[str, str, str]:
        """Run a cell, and return what it printed, what it showed on standard error, and its value."""
        cell = nbformat.v4.new_code_cell(source.strip())
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        texts = {"stdout": "", "stderr": ""}
        value = ""
        for output in cell.outputs:
            if output.output_type == "stream":
                texts[output.name] += output.text
            elif output.output_type == "execute_result":
                value = output.data["text/plain"]
        return texts["stdout"], texts["stderr"], value


def kernel_in(folder: Path, url: str) -> Iterator[Kernel]:
    """Start a kernel in a folder, with the archive that its environment names."""
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=120, kernel_name="python3", resources=place)
    environment = {**os.environ, "PSFHARVEST_ARCHIVE": url}
    with client.setup_kernel(env=environment):
        made = Kernel(client)
        made.run("import sys; sys.modules['ipywidgets'] = None")  # where it is installed, a bar is no text
        yield made


@pytest.fixture
def kernel(tmp_path: Path, simulator: Simulator) -> Iterator[Kernel]:
    """A kernel beside the simulator."""
    yield from kernel_in(tmp_path, simulator.url)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_published_notebook_runs_with_its_import_changed(
    kernel: Kernel, simulator: Simulator, tmp_path: Path
) -> None:
    """Six sources, six cutouts by each way, no different pixel; bars where the notebook shows them."""
    results = [kernel.run(cell) for cell in CELLS]
    printed = "".join(out for out, _, _ in results)
    values = [value for _, _, value in results]
    pool = values[8].strip("'")

    assert "[{'min': 100, 'max': 102}]" == values[1]
    assert "Number of sources queried: 6\n" in printed
    assert "'ibc302ioq_8184981_F814W_flt_cutout.fits'" == values[5]
    assert "'mastDownload.tar.gz'" == values[6]
    root = re.search(f"Path to MAST PSF Cutouts: ({FOLDER})\n", printed)[1]
    assert re.fullmatch(f"{FOLDER}/WFC3PSF", pool)
    assert 6 == len(list(tmp_path.glob(f"{root}/*/*")))
    assert 6 == len(list(tmp_path.glob(f"{pool}/*")))
    assert 6 == check_every_file((tmp_path / pool).parent, simulator)
    assert "Number of cutouts: 6\n" in printed
    assert "There are 0 different pixels.\n" in printed
    assert [n in BARS for n in range(len(CELLS))] == ["6/6" in err and "100%" in err for _, err, _ in results]
    assert "IProgress" not in "".join(err for _, err, _ in results)
    assert "[]" == kernel.run("[t.name for t in __import__('threading').enumerate() if 'psfharvest' in t.name]")[2]


@pytest.mark.campaign
@pytest.mark.quiet
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_an_interrupt_of_the_kernel_stops_a_pool_and_the_next_call_continues(tmp_path: Path) -> None:
    """In the middle of 5,000 cutouts the kernel is interrupted: no request follows, and the next call finishes."""
    with Simulator(Settings(sources=20_000, latency_s=0.02, bundle_latency_s_per_cutout=0.01)) as simulator:
        for kernel in kernel_in(tmp_path, simulator.url):
            pid = int(kernel.run(QUERY)[2])
            simulator.forget()
            thread = threading.Thread(target=interrupt, args=(pid, simulator, tmp_path))
            thread.start()
            with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
                kernel.run("mast_api_psf.download_request_pool(dataURIs)")
            thread.join()
            before = claimed(tmp_path)
            simulator.forget()
            time.sleep(0.3)
            assert 0 == simulator.count("any")
            assert 0 < before < 5000

            (only,) = tmp_path.glob("MAST_*")
            _, bar, folder = kernel.run("mast_api_psf.download_request_pool(dataURIs)")

        assert f"'{only.name}/WFC3PSF'" == folder
        assert "5000/5000" in bar
        assert 5000 == claimed(tmp_path) == len(list(tmp_path.glob(f"{only.name}/WFC3PSF/*")))


@pytest.mark.campaign
@pytest.mark.quiet
def test_readmes_lines_run_in_a_kernel_and_an_interrupt_is_one_sentence(tmp_path: Path) -> None:
    """The stop button answers with how much is stored, in at most three frames of ours; the next call goes on."""
    (code,) = [
        text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "blocking.Archive()" in text
    ]
    with Simulator(Settings(sources=20_000, latency_s=0.02)) as simulator:
        for kernel in kernel_in(tmp_path, simulator.url):
            out, bar, _ = kernel.run(code)
            assert "300 of 300 cutouts" in out
            assert "300/300" in bar

            pid = int(kernel.run("import os; os.getpid()")[2])
            thread = threading.Thread(target=interrupt, args=(pid, simulator, tmp_path, "many"))
            simulator.forget()
            thread.start()
            with pytest.raises(CellExecutionError) as caught:
                kernel.run("archive.harvest(Query('UVIS', limit=5000), 'many', suffixes=['flt'], via='file')")
            thread.join()
            _, again, value = kernel.run(
                "report = archive.harvest(Query('UVIS', limit=5000), 'many', suffixes=['flt'])\n"
                "report.done, Harvest('many').status().done"
            )

    words = re.sub(r"\x1b\[[0-9;]*m", "", str(caught.value))
    assert re.search(r"KeyboardInterrupt: interrupted: [\d,]+ of 5,000 stored; run the same again to go on", words)
    assert 1 <= len(re.findall(r"^File .*psfharvest/.*\.py", words, re.MULTILINE)) <= 3, words
    assert "5000/5000" in again
    assert "(5000, 5000)" == value


def interrupt(pid: int, simulator: Simulator, folder: Path, name: str = "MAST_*") -> None:
    """Send what Jupyter's stop button sends, once the harvest is at work and has claimed something."""
    while simulator.count("any") < 30 or not claimed(folder, name):
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)


def claimed(folder: Path, name: str = "MAST_*") -> int:
    """How many cutouts the folder's one harvest of that name has claimed."""
    manifests = list(folder.glob(f"{name}/manifest.sqlite"))
    return sum(row["state"] == "done" for row in rows_of(manifests[0].parent)) if manifests else 0
