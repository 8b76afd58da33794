"""Learning-rate policies: the rate as a function of the iteration. Registered by their prototxt name.

Sources: Caffe's solver documentation; Bottou (2012), section 5.2, for ``inv``.
"""

from collections.abc import Callable, Sequence

import numpy as np

from blobnet.errors import did_you_mean, error_at
from blobnet.proto import blobnet_pb2 as pb

Policy = Callable[[pb.SolverParameter, int, int], tuple[float, int]]

_policies: dict[str, tuple[Policy, Sequence[str]]] = {}


def register(name: str, positive: Sequence[str] = ()) -> Callable[[Policy], Policy]:
    """Decorator: ``lr_policy: name`` calls the function with (SolverParameter, iteration, current step).

    It returns the rate and the current step, which counts the drops made so far and stands in the solverstate.
    ``positive`` names the fields of SolverParameter that must be above 0.
    """

    def add(policy: Policy) -> Policy:
        _policies[name] = policy, positive
        return policy

    return add


def check(param: pb.SolverParameter) -> None:
    """Refuse a SolverParameter whose learning rate is not defined."""
    if not param.HasField("base_lr"):
        raise error_at(param, "base_lr must be given: without it nothing is learned")
    if param.lr_policy not in _policies:
        known = ", ".join(sorted(_policies))
        hint = did_you_mean(param.lr_policy, _policies)
        raise error_at(param, f'lr_policy must be one of {known}; got "{param.lr_policy}"{hint}', "lr_policy")
    for field in _policies[param.lr_policy][1]:
        value = getattr(param, field)
        if value <= 0:
            raise error_at(param, f'lr_policy "{param.lr_policy}" needs {field} above 0; got {value}', field)


def learning_rate(param: pb.SolverParameter, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate at an iteration, and the number of drops made so far. Overflow gives infinity."""
    policy, _ = _policies[param.lr_policy]
    with np.errstate(all="ignore"):
        rate, current_step = policy(param, iteration, current_step)
    return float(rate), current_step


@register("fixed")
def fixed(param, iteration, current_step):
    """base_lr"""
    return param.base_lr, current_step


@register("step", positive=["stepsize"])
def step(param, iteration, current_step):
    """base_lr * gamma ^ floor(iteration / stepsize)"""
    current_step = iteration // param.stepsize
    return param.base_lr * np.power(param.gamma, current_step, dtype=float), current_step


@register("exp")
def exp(param, iteration, current_step):
    """base_lr * gamma ^ iteration"""
    return param.base_lr * np.power(param.gamma, iteration, dtype=float), current_step


@register("inv")
def inv(param, iteration, current_step):
    """base_lr * (1 + gamma * iteration) ^ -power"""
    return param.base_lr * np.power(1 + param.gamma * iteration, -param.power), current_step


@register("multistep")
def multistep(param, iteration, current_step):
    """base_lr * gamma ^ (number of stepvalues reached, one more an iteration at most)"""
    if current_step < len(param.stepvalue) and iteration >= param.stepvalue[current_step]:
        current_step += 1
    return param.base_lr * np.power(param.gamma, current_step, dtype=float), current_step


@register("poly", positive=["max_iter"])
def poly(param, iteration, current_step):
    """base_lr * (1 - iteration / max_iter) ^ power, and 0 past max_iter"""
    return param.base_lr * np.power(max(0.0, 1 - iteration / param.max_iter), param.power), current_step


@register("sigmoid", positive=["stepsize"])
def sigmoid(param, iteration, current_step):
    """base_lr / (1 + exp(-gamma * (iteration - stepsize))): falls where gamma is negative"""
    return param.base_lr / (1 + np.exp(-param.gamma * (iteration - param.stepsize))), current_step
