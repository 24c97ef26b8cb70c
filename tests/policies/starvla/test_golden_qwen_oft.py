"""QwenOFT reproduces the published code: names, prompts token for token, and actions."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from siirl.policies.starvla import QwenOFT
from tests.policies.golden import FOLDER, relative_difference
from tests.policies.starvla.tiny import fill_by_name

CASES = sorted(file.stem for file in FOLDER.glob("qwenoft*.json"))


@dataclass
class Case:
    spec: dict[str, Any]
    vectors: dict[str, Tensor]
    oft: QwenOFT

    @property
    def arguments(self) -> tuple[list[Any], list[str], Any]:
        """What `QwenOFT.inputs` takes."""
        images = [[view.numpy() for view in row] for row in self.vectors["images_uint8"]]
        states = self.vectors.get("states")
        return images, self.spec["instructions"], None if states is None else states.numpy()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    spec = json.loads((FOLDER / f"{request.param}.json").read_text())
    config = spec["framework_config"]
    oft = QwenOFT.from_config(config, FOLDER / config["qwenvl"]["base_vlm"], spec.get("vla_data"))
    fill_by_name(oft.model)
    return Case(spec, load_file(FOLDER / f"{request.param}.safetensors"), oft)


def test_there_are_vectors_of_either_base_model_and_of_several_views() -> None:
    assert len(CASES) >= 5
    assert {"qwenoft_dev", "qwenoft_views", "qwenoft3_views"} < set(CASES)


def test_parameters_have_the_published_names_and_no_other(case: Case) -> None:
    named = [[name, list(parameter.shape)] for name, parameter in case.oft.model.named_parameters()]
    assert named == case.spec["param_names"]
    extra = {"qwen_vl_interface.model.lm_head.weight"} if case.oft.model.tied else set()
    assert case.oft.model.state_dict().keys() == {name for name, _ in named} | extra


def test_prompts_are_those_of_the_published_code_token_for_token(case: Case) -> None:
    inputs = case.oft.inputs(*case.arguments)
    assert torch.equal(inputs["input_ids"], case.vectors["input_ids"])
    assert torch.equal(inputs["attention_mask"].long(), case.vectors["attention_mask"].long())
    assert case.oft.model.action_token == case.spec["action_token_id"]


def test_actions_are_those_of_the_published_code(case: Case) -> None:
    actions = case.oft.normalized_actions(*case.arguments)
    assert (actions.shape, actions.dtype) == (case.vectors["normalized_actions"].shape, torch.float32)
    assert relative_difference(actions, case.vectors["normalized_actions"]) < 1e-4


def test_a_row_alone_and_more_padding_change_nothing(case: Case) -> None:
    images, instructions, states = case.arguments
    for row, expected in enumerate(case.vectors["normalized_actions"]):
        given = None if states is None else states[row : row + 1]
        alone = case.oft.normalized_actions([images[row]], [instructions[row]], given)
        assert relative_difference(alone[0], expected) < 1e-4
    inputs = case.oft.inputs(*case.arguments)
    for pad in ((3, 0), (0, 2)):
        padded = {name: torch.nn.functional.pad(inputs[name], pad) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            actions = case.oft.model(**{**inputs, **padded}).mean
        assert relative_difference(actions, case.vectors["normalized_actions"]) < 1e-4
