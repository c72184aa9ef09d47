"""The best checkpoint of a run whose folder is another than it was."""

from pathlib import Path

import torch

from stnrot.callbacks.best_checkpoint import BestCheckpoint


def test_the_best_checkpoint_in_another_folder(tmp_path: Path) -> None:
    """It is copied to a new folder. A copy of the run has it: in the old place the run may have gone on."""
    old, new, copy = (tmp_path / name for name in ("old", "new", "copy"))
    for folder, content in ((old, "later"), (copy, "then")):
        folder.mkdir()
        (folder / "best.ckpt").write_text(content)
    state = BestCheckpoint(dirpath=old, filename="best", monitor="val/nll").state_dict()
    state |= {"best_model_path": str(old / "best.ckpt"), "best_model_score": torch.tensor(0.5)}
    for folder, content in ((new, "later"), (copy, "then")):
        best = BestCheckpoint(dirpath=folder, filename="best", monitor="val/nll")
        best.load_state_dict(state)
        assert best.best_model_path == str(folder / "best.ckpt")
        assert best.best_model_score == 0.5
        assert Path(best.best_model_path).read_text() == content
    assert (old / "best.ckpt").read_text() == "later"
