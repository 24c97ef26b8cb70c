"""Compiled blocks imagine the same, for any number of rows without new code. Compiles for real, so it is slow."""

import os
import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from siirl.envs.world_model.sampler import sample, schedule
from tests.envs.world_model.parts import small_parts

COMPILER = os.environ.get("CXX", "g++")
pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"compile is NOT TESTED here: there is no C++ compiler {COMPILER}"
)


def test_compiled_blocks_imagine_alike() -> None:
    plain, compiled = small_parts()[0], small_parts()[0]
    compiled.compile_blocks()
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    graphs = []
    for rows in (5, 3):
        generator = torch.Generator().manual_seed(rows)
        condition, noise = (torch.randn(rows, 4, frames, 12, 12, generator=generator) for frames in (4, 8))
        actions = torch.randn(rows, 8, 7, generator=generator)
        both = [sample(model, condition, noise, actions, schedule(2, 64), 64) for model in (plain, compiled)]
        torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[1] == graphs[0], "other numbers of rows need no other code"
    assert not counters["graph_break"]
