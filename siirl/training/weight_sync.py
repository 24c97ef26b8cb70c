"""From the weights that are trained to the copies that act: gathered from the shards, cast, and sent, bucket by bucket."""

import json
from collections.abc import Iterator, Sequence
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn

from siirl.training.fsdp import Ranks, gathered

BUCKET_BYTES = 64 * 2**20
"""Most that is sent at once, unless one parameter alone has more."""

Entry = tuple[str, list[int], str]
"""Name, shape, and dtype (as in ``torch.bfloat16``) of a parameter in the copies that act."""


class WeightSync:
    """Brings every copy that acts up to date with the trained weights, in place. Built by all ranks together (collective).

    A copy's parameters end as those that are trained, cast to its own dtype. Parameters that need no gradient (those under LoRA
    adapters) are the same everywhere already, and are not sent. Memory holds, besides models and shards, one bucket and one
    whole parameter.

    Args:
        ranks: this rank's place.
        device: where this rank computes.
        trained: an actor's model, sharded where there are several.
        acting: the copy that acts on this rank; None where there is none, or it is ``trained`` itself.

    Raises:
        RuntimeError: a rank's parameters are others than those of the rank that decides (the first that only acts, else rank
            0). Every rank raises it; the one with other parameters names them.
    """

    def __init__(self, ranks: Ranks, device: torch.device, trained: nn.Module | None, acting: nn.Module | None) -> None:
        assert (trained is not None) == ranks.trains
        assert ranks.trains or acting is not None, "a rank that does not train has a copy that acts"
        self._ranks, self._device = ranks, device
        self._trained, self._acting = _learning(trained), _learning(acting)
        own = _layout(self._trained if acting is None else self._acting)
        layout = self._from_rank(ranks.actors if ranks.world > ranks.actors else 0, own)
        problem = _differences(layout, own, "here", dtypes=not ranks.trains)
        if trained is not None and not problem:
            problem = _differences(layout, _layout(self._trained), "trained here", dtypes=False)
        wrong = self._all_agree(problem)
        if problem or wrong:
            raise RuntimeError(
                f"weights cannot be sent between different models: {problem or f'{wrong} other ranks differ, see their errors'}"
            )
        self._buckets = list(_buckets(layout))
        self._bytes = sum(_bytes(entry) for entry in layout) if ranks.world > ranks.actors else 0

    @torch.no_grad()
    def sync(self, version: int | None = None) -> tuple[int, int]:
        """Bring the copies up to date (collective). No copy may act meanwhile.

        Args:
            version: optimizer steps behind the trained weights, given by the actors and by nobody else.

        Returns:
            The actors' version, on every rank; bytes sent to each rank that only acts, 0 where there is none.
        """
        assert (version is not None) == self._ranks.trains
        header = torch.tensor([-1 if version is None else version], device=self._device)
        self._send(header)
        for bucket in self._buckets:
            self._sync_bucket(bucket)
        return int(header), self._bytes  # reading the header waits for the device

    def _sync_bucket(self, bucket: Sequence[Entry]) -> None:
        flat = None
        if self._ranks.receivers is not None:
            sizes = [prod(shape) for _, shape, _ in bucket]
            flat = torch.empty(sum(sizes), dtype=_dtype(bucket[0]), device=self._device)
            parts = dict(zip((name for name, _, _ in bucket), flat.split(sizes), strict=True))
        for name, shape, _ in bucket if self._ranks.trains else ():
            value = gathered(self._trained[name], self._device)
            if name in self._acting:
                self._acting[name].copy_(value)
            if flat is not None:
                parts[name].view(shape).copy_(value)
        if flat is None:
            return
        self._send(flat.view(torch.uint8))
        if not self._ranks.trains:
            for name, shape, _ in bucket:
                self._acting[name].copy_(parts[name].view(shape))

    def _send(self, tensor: Tensor) -> None:
        """From rank 0 to those that only act, in place."""
        if self._ranks.receivers is not None:
            dist.broadcast(tensor, src=0, group=self._ranks.receivers)

    def _from_rank(self, rank: int, layout: list[Entry]) -> list[Entry]:
        """One rank's layout, on every rank."""
        if self._ranks.world == 1:
            return layout
        text = json.dumps(layout).encode()
        length = torch.tensor([len(text)], device=self._device)
        dist.broadcast(length, src=rank)
        content = torch.zeros(int(length), dtype=torch.uint8, device=self._device)
        if self._ranks.rank == rank:
            content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(content, src=rank)
        return [(name, shape, dtype) for name, shape, dtype in json.loads(content.cpu().numpy().tobytes())]

    def _all_agree(self, problem: str) -> int:
        """On how many ranks there is a problem."""
        count = torch.tensor([int(bool(problem))], device=self._device)
        if self._ranks.world > 1:
            dist.all_reduce(count)
        return int(count)


def _learning(model: nn.Module | None) -> dict[str, nn.Parameter]:
    """The parameters that need a gradient."""
    named = model.named_parameters() if model is not None else ()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def _layout(parameters: dict[str, nn.Parameter]) -> list[Entry]:
    """Name, shape and dtype of every parameter, those of one dtype side by side."""
    entries = [(name, list(parameter.shape), str(parameter.dtype)) for name, parameter in parameters.items()]
    return sorted(entries, key=lambda entry: entry[2])


def _differences(layout: list[Entry], own: list[Entry], where: str, dtypes: bool) -> str:
    """What sets ``own`` apart from the ``layout`` that acts elsewhere, the first few by name; nothing where they are the same.
    Without ``dtypes`` those may differ."""
    here, there = ({n: (shape, dtype if dtypes else "") for n, shape, dtype in entries} for entries in (own, layout))
    names = [name for name in {**there, **here} if here.get(name) != there.get(name)]
    shown = "; ".join(f"{n}: {_told(here.get(n))} {where}, {_told(there.get(n))} acting elsewhere" for n in names[:4])
    return f"{len(names)} parameters differ ({shown})" if names else ""


def _told(entry: tuple[list[int], str] | None) -> str:
    return f"{entry[0]} {entry[1]}".strip() if entry else "none"


def _buckets(layout: list[Entry]) -> Iterator[list[Entry]]:
    """Runs of one dtype that have `BUCKET_BYTES` at most, or one parameter."""
    run: list[Entry] = []
    for entry in layout:
        if run and (entry[2] != run[0][2] or sum(map(_bytes, [*run, entry])) > BUCKET_BYTES):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def _dtype(entry: Entry) -> torch.dtype:
    dtype = getattr(torch, entry[2].removeprefix("torch."))
    assert isinstance(dtype, torch.dtype)
    return dtype


def _bytes(entry: Entry) -> int:
    return prod(entry[1]) * _dtype(entry).itemsize
