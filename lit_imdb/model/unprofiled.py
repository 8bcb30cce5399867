"""Optimizer calls without torch's look for a profiler, which takes 0.2 ms of a training step."""

from collections.abc import Callable
from typing import Any

from torch.autograd import profiler
from torch.optim import optimizer as optimizers


def step(optimizer: Any, closure: Callable[[], Any] | None) -> None:
    """`optimizer.step(closure)`; the very call where a profiler runs or somebody hooked in."""
    whole = type(optimizer).step  # torch puts its look around each optimizer's own, and says so
    if (
        not getattr(whole, "hooked", False)
        or "step" in vars(optimizer)  # of a learning rate schedule
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or optimizers._global_optimizer_pre_hooks
        or optimizers._global_optimizer_post_hooks
        or profiler._is_profiler_enabled
    ):
        optimizer.step(closure=closure)
    else:
        whole.__wrapped__(optimizer, closure=closure)


def zero_grad(optimizer: Any) -> None:
    """`optimizer.zero_grad()`."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
