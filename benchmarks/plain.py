"""The same forwards as one would first write them with timm and transformers, for comparison: LlamaForCausalLM as it is.

Every block of the vision towers and the logits of every id and position are computed, and weights are held in the dtype of
computation.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from siirl.policies.base import PolicyInputs
from siirl.policies.prismatic.model import PrismaticVLA

from transformers.models.llama.modeling_llama import LlamaForCausalLM  # isort: skip


class PlainPolicy:
    """What both have in common.

    Args:
        model: whose weights to use; copied into ``dtype`` when that is not float32.
    """

    def __init__(self, model: PrismaticVLA, dtype: torch.dtype) -> None:
        self.model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
        self.dtype = dtype
        weights = self.model.language_model.state_dict()
        with torch.device("meta"):
            llama: Any = LlamaForCausalLM(self.model.language_model.config)
        llama.load_state_dict(weights, assign=True)
        llama.model.rotary_emb = self.model.language_model.model.rotary_emb
        self.llama = llama.eval()

    def embeddings(self, inputs: PolicyInputs) -> Tensor:
        """BOS, patches, proprioception where there is, rest of the prompt: [B, S, H]."""
        backbone, projector = self.model.vision_backbone, self.model.projector
        batch = len(inputs["images"])
        pixels = inputs["images"].permute(0, 1, 4, 2, 3).flatten(0, 1).to(self.dtype) / 255
        features = []
        for tower, (mean, std) in zip(backbone.featurizers, backbone.normalisation, strict=True):
            mean, std = (pixels.new_tensor(values)[:, None, None] for values in (mean, std))
            last_but_one = len(tower.blocks) - 2
            features.append(tower.get_intermediate_layers((pixels - mean) / std, n=[last_but_one])[0])
        patches = projector(torch.cat(features, dim=-1)).reshape(batch, -1, self.llama.config.hidden_size)
        if "proprio" in inputs:
            proprio = self.model.proprio_projector(inputs["proprio"].to(self.dtype))
            patches = torch.cat([patches, proprio[:, None]], dim=1)
        words = self.llama.get_input_embeddings()(inputs["input_ids"])
        return torch.cat([words[:, :1], patches, words[:, 1:]], dim=1)

    def bins(self, logits: Tensor) -> Tensor:
        """One bin drawn for each row of logits [..., vocabulary]."""
        probabilities = logits[..., self.model.first_action_id : self.model.vocab_size].float().softmax(-1)
        return torch.multinomial(probabilities.flatten(0, -2), 1).view(logits.shape[:-1])


class PlainOFT(PlainPolicy):
    """OpenVLA-OFT with parallel decoding; prompts must be of one length."""

    @torch.no_grad()
    def logits(self, inputs: PolicyInputs) -> Tensor:
        """Of every id at the action positions, [B, K, vocabulary]."""
        prompt = self.embeddings(inputs)
        actions = self.model.num_action_tokens
        stop = self.llama.get_input_embeddings()(torch.full_like(inputs["input_ids"][:, :1], 2))
        sequence = torch.cat([prompt, prompt.new_zeros(len(prompt), actions, prompt.shape[2]), stop], dim=1)
        length = sequence.shape[1]
        both_ways = sequence.new_zeros(len(sequence), 1, length, length)
        logits = self.llama(inputs_embeds=sequence, attention_mask=both_ways, use_cache=False).logits
        return logits[:, -actions - 2 : -2]

    def act(self, inputs: PolicyInputs) -> Tensor:
        """Drawn bins [B, K] on the CPU."""
        return self.bins(self.logits(inputs)).cpu()


class PlainOpenVLA(PlainPolicy):
    """OpenVLA's decoding, token by token, with transformers' cache; prompts must be of one length."""

    @torch.no_grad()
    def act(self, inputs: PolicyInputs) -> Tensor:
        """Drawn bins [B, K] on the CPU."""
        out = self.llama(inputs_embeds=self.embeddings(inputs), use_cache=True)
        bins = [self.bins(out.logits[:, -1])]
        while len(bins) < self.model.num_action_tokens:
            ids = bins[-1][:, None] + self.model.first_action_id
            out = self.llama(input_ids=ids, past_key_values=out.past_key_values, use_cache=True)
            bins.append(self.bins(out.logits[:, -1]))
        return torch.stack(bins, dim=1).cpu()


def plain(model: PrismaticVLA, dtype: torch.dtype) -> PlainOFT | PlainOpenVLA:
    """The plain counterpart of a policy's network."""
    return (PlainOpenVLA if hasattr(model, "generate") else PlainOFT)(model, dtype)


def plain_clip(encoder: torch.nn.Module, video: Tensor, dtype: torch.dtype) -> Tensor:
    """A video's embedding by transformers' encoder as it is, weights in ``dtype``: uint8 [T, S, S, 3] → [E]."""
    pixels = video.permute(0, 3, 1, 2).to(dtype) / 255
    mean = pixels.new_tensor((0.485, 0.456, 0.406))[:, None, None]
    std = pixels.new_tensor((0.229, 0.224, 0.225))[:, None, None]
    states = encoder(pixel_values_videos=((pixels - mean) / std)[None]).last_hidden_state
    return states.float().mean(dim=1)[0]
