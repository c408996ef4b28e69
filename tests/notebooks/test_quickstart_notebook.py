"""notebooks/quickstart.ipynb in a real kernel: it runs from top to bottom, and after a kill or a stop it continues."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
ENDLESS = 100_000


def test_the_notebook_is_whole_and_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.execution_count, cell.outputs) == (None, []), cell.source


class Execution:
    """The notebook in a kernel of its own, executed by a thread, with other settings.

    Args:
        folder: Working folder of the kernel.
        epochs: Of the training.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.notebook = nbformat.read(NOTEBOOK, as_version=4)
        [cell] = [cell for cell in self.notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        changes = {
            "data.generate": 1, "data.num_workers": 0, "aug.size": 32, "train.epochs": epochs, "run.name": "notebook", "seed": 1,
            "train.device": "cpu",
        }  # fmt: skip
        cell.source += f"\nCHANGES = {changes}"
        self.client = nbclient.NotebookClient(self.notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._execute)
        self._thread.start()

    def _execute(self) -> None:
        try:
            self.client.execute()
        except Exception as error:
            self.error = error

    def signal(self, signum: int) -> None:
        """Send the kernel what its server sends for a stop (SIGINT), or what the system sends a process that takes too much memory."""
        os.kill(self.client.km.provisioner.pid, signum)

    def join(self) -> str:
        """Wait for the end; return the text of all outputs."""
        self._thread.join(300)
        assert not self._thread.is_alive()
        outputs = [output for cell in self.notebook.cells for output in cell.get("outputs", [])]
        return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)

    @property
    def pictures(self) -> int:
        """Number of PNG images shown."""
        return sum("image/png" in output.get("data", {}) for cell in self.notebook.cells for output in cell.get("outputs", []))


def wait_for_epochs(folder: Path, execution: Execution, num: int) -> int:
    """Wait until that many epochs are recorded and a state is saved; return how many there are."""
    run = folder / "hw1-quickstart" / "runs" / "notebook" / "seed1"
    for _ in range(1200):
        assert execution.error is None, execution.error
        rows = (run / "metrics.jsonl").read_text().count("\n") if (run / "metrics.jsonl").is_file() else 0
        if rows >= num and list((run / "checkpoints").glob("epoch*.sha256")):
            return rows
        time.sleep(0.1)
    raise AssertionError("no epoch in two minutes")


@pytest.mark.slow
def test_it_continues_after_a_kill_and_after_the_stop_button(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    killed = Execution(tmp_path, ENDLESS)
    wait_for_epochs(tmp_path, killed, 1)
    killed.signal(signal.SIGKILL)
    killed.join()
    assert isinstance(killed.error, nbclient.exceptions.DeadKernelError)

    stopped = Execution(tmp_path, ENDLESS)
    wait_for_epochs(tmp_path, stopped, wait_for_epochs(tmp_path, stopped, 1) + 1)  # one more: it is under way again
    stopped.signal(signal.SIGINT)
    stopped.join()
    assert "Interrupted" in str(stopped.error)
    assert "saved at epoch" in str(stopped.error)

    rows = (tmp_path / "hw1-quickstart/runs/notebook/seed1/metrics.jsonl").read_text().count("\n")
    whole = Execution(tmp_path, rows + 1)
    text = whole.join()
    assert whole.error is None
    assert f"continues in epoch {rows + 1}" in text
    assert "'epoch': " + str(rows + 1) in text
    assert "top-1 0." in text
    assert text.count(" -> ") == 3
    assert whole.pictures == 1 + 3
