"""Learning-rate policies: the rate as a function of the iteration. Registered by their prototxt name.

Sources: Caffe's solver documentation; Bottou (2012), section 5.2, for ``inv``; Loshchilov and Hutter (2017),
section 3, for ``sgdr``; the SSD branch of Caffe for ``plateau``; intel/caffe for the warm-up.
"""

import math
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
        is_cosine = param.lr_policy.lower().startswith("cosine")
        hint = '; "sgdr" is the cosine policy' if is_cosine else did_you_mean(param.lr_policy, _policies)
        raise error_at(param, f'lr_policy must be one of {known}; got "{param.lr_policy}"{hint}', "lr_policy")
    for field in _policies[param.lr_policy][1]:
        value = getattr(param, field)
        if value <= 0 and not (field == "max_iter" and param.max_epoch):
            raise error_at(param, f'lr_policy "{param.lr_policy}" needs {field} above 0; got {value}', field)
    _check_own_fields(param)


def _check_own_fields(param: pb.SolverParameter) -> None:
    for field in ("warmup_iter", "period"):
        if getattr(param, field) < 0:
            raise error_at(param, f"{field} must be 0 or more; got {getattr(param, field)}", field)
    if param.p_mult < 1:
        raise error_at(param, f"p_mult must be 1 or more; got {param.p_mult:g}", "p_mult")
    if param.lr_policy == "sgdr" and not (param.period or param.max_iter or param.max_epoch):
        raise error_at(param, 'lr_policy "sgdr" needs period or max_iter', "lr_policy")
    if param.lr_policy == "plateau" and (not param.plateau_winsize or min(param.plateau_winsize) < 1):
        windows = list(param.plateau_winsize) or "none"
        text = f'lr_policy "plateau" needs plateau_winsize, once a drop, each above 0; got {windows}'
        raise error_at(param, text, "plateau_winsize")


def learning_rate(param: pb.SolverParameter, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate at an iteration, and the number of drops made so far. Overflow gives infinity.

    Before iteration ``warmup_iter`` it lies on the line from ``warmup_start_lr`` to ``base_lr``, whatever the policy.
    """
    if iteration < param.warmup_iter:
        share = iteration / param.warmup_iter
        return (1 - share) * param.warmup_start_lr + share * param.base_lr, current_step
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


@register("sgdr")
def sgdr(param, iteration, current_step):
    """min_lr + (base_lr - min_lr) * (1 + cos(pi * t / T)) / 2 at iteration t of a cycle of T iterations

    The first cycle has T = period, each later one p_mult times as many. Without period one cycle ends at max_iter.
    """
    if not param.period:
        current_step, share = 0, min(1.0, iteration / param.max_iter)
    else:
        current_step, share = _cycle(iteration / param.period, param.p_mult)
    return param.min_lr + (param.base_lr - param.min_lr) * (1 + math.cos(math.pi * share)) / 2, current_step


def _cycle(periods: float, factor: float) -> tuple[int, float]:
    """Number of the cycle, and the share of it that is over, when so many first cycles have gone by."""
    if factor == 1:
        return int(periods), periods % 1
    cycle = int(math.log1p(periods * (factor - 1)) / math.log(factor) + 1e-9)
    begun = (factor**cycle - 1) / (factor - 1)
    return cycle, max(0.0, periods - begun) / factor**cycle


@register("plateau", positive=["gamma"])
def plateau(param, iteration, current_step):
    """base_lr * gamma ^ (number of drops that ``watch.Plateau`` has counted)"""
    return param.base_lr * np.power(param.gamma, current_step, dtype=float), current_step
