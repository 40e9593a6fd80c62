"""Ultralytics' trainers as members of a training on several nodes; as they are, they know of several GPUs of one.

Where there are no GPUs they exchange gradients themselves: PyTorch's own way wants devices, as Ultralytics asks it.
"""

from __future__ import annotations

import os
from typing import Any


def spread(model: Any) -> type[Any]:
    """Give the trainer of a model's task, for a process that torchrun started."""
    import torch

    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    trainer = _member(model.task_map[model.task]["trainer"], size, rank)
    return trainer if torch.cuda.is_available() else _without_gpus(trainer, size, rank)


def _member(base: type[Any], size: int, rank: int) -> type[Any]:
    class Member(base):  # type: ignore[misc]
        """Counts the processes of all nodes, not the devices of this one."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.world_size = size

        def final_eval(self) -> None:
            """Measure the best weights, which only the first process has on its disk."""
            self.share_best()
            super().final_eval()

        def share_best(self) -> None:
            from torch import distributed

            held = [self.best.read_bytes() if rank == 0 and self.best.exists() else None]
            distributed.broadcast_object_list(held, 0)
            if rank != 0 and held[0] is not None:
                self.wdir.mkdir(parents=True, exist_ok=True)
                self.best.write_bytes(held[0])

    return Member


def _without_gpus(base: type[Any], size: int, rank: int) -> type[Any]:
    class Member(base):  # type: ignore[misc]
        """Keeps weights alike by itself."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.args.amp = False  # what else the first process would find out, for itself alone

        def _setup_ddp(self) -> None:
            from torch import distributed

            distributed.init_process_group("gloo", rank=rank, world_size=size)

        def _setup_train(self) -> None:
            self.world_size = 1  # so that nothing is wrapped for devices that are not there
            super()._setup_train()
            for module in (self.model, self.ema.ema):
                _same(module)

        def _build_train_pipeline(self) -> None:
            self.world_size = size
            super()._build_train_pipeline()

        def optimizer_step(self) -> None:
            _average(self.model, size)
            super().optimizer_step()

        def final_eval(self) -> None:
            """Measure the best weights as those of an epoch: otherwise each process would need a GPU for it."""
            from ultralytics.nn.tasks import load_checkpoint
            from ultralytics.utils.torch_utils import strip_optimizer

            self.share_best()
            if self.best.exists():
                self.ema.ema.load_state_dict(load_checkpoint(self.best)[0].float().state_dict())
                found = self.validate()[0] or {}
                self.metrics = {name: value for name, value in found.items() if not name.startswith("val/")}
            if rank == 0:
                curves = strip_optimizer(self.last).get("train_results")
                strip_optimizer(self.best, updates={"train_results": curves})

    return Member


def leave() -> None:
    """Let go of the other processes."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _same(module: Any) -> None:
    """Give all processes the weights of the first."""
    from torch import distributed

    for tensor in module.state_dict().values():
        distributed.broadcast(tensor, 0)


def _average(module: Any, size: int) -> None:
    """Give all processes the mean of their gradients; what one has none for counts as nought."""
    import torch
    from torch import distributed

    for parameter in module.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= size
