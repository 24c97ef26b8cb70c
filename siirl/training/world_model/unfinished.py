"""The folder that a training keeps until it is done, so that the same command goes on after an interrupt or a crash."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from siirl.data.files import write_atomically

FOLDER = "unfinished"
"""In the folder of the model."""
ARGUMENTS = "arguments.json"


class Unfinished:
    """States of networks in training, by name, and what they are made of.

    Args:
        model_folder: where the finished model will be.
    """

    def __init__(self, model_folder: Path) -> None:
        self.folder = model_folder / FOLDER

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return (self.folder / ARGUMENTS).exists()

    def begin(self, arguments: Mapping[str, Any]) -> None:
        """Make the folder, or go on with what is there; ``arguments`` hold numbers, strings, and lists of them.

        Raises:
            ValueError: what is there was made with other arguments.
        """
        if not self.exists:
            text = json.dumps(dict(arguments), indent=1)
            write_atomically(self.folder / ARGUMENTS, lambda stream: stream.write(text.encode()))
            return
        before: dict[str, Any] = json.loads((self.folder / ARGUMENTS).read_text())
        changed = [name for name in {**before, **arguments} if before.get(name) != arguments.get(name)]
        if changed:
            told = "; ".join(f"{name} was {before.get(name)} and is {arguments.get(name)}" for name in changed)
            raise ValueError(
                f"{self.folder.parent} holds a training that was begun otherwise, and cannot go on so: {told}. Give what it "
                "was, remove the folder to begin anew, or name another one (--out)."
            )

    def load(self, name: str) -> dict[str, Any] | None:
        """The last state saved under a name, on the host."""
        file = self._file(name)
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Replace a state: tensors, numbers, and dicts and lists of them."""
        write_atomically(self._file(name), lambda stream: torch.save(dict(state), stream))

    def remove(self) -> None:
        """The model is there: nobody needs this any more. First of all it is no training to go on with."""
        (self.folder / ARGUMENTS).unlink()
        shutil.rmtree(self.folder)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pt"
