"""Applies the plans of ``passes.memory`` to nets: less memory, at the price that not every blob stays visible.

Solvers do so for the nets they train; a net that a user holds keeps every blob.
"""

from collections.abc import Sequence

from blobnet.blob import Blob, pool
from blobnet.net import Net
from blobnet.passes.memory import Lifetime, group_by_size, plan_buffers


def make_lean(train: Net, tests: Sequence[Net]) -> None:
    """Give up what a solver does not need of its nets: room for each blob, and the backward passes of the test nets."""
    for net in (train, *tests):
        net.fuse(lean=True)
    for net in tests:
        net.predict_only()
    pool_diffs(train)
    share_activations(train, *tests)


def pool_diffs(net: Net) -> None:
    """Let the diffs of blobs between layers share buffers.

    A diff is needed from the backward pass of the last layer that reads the blob to that of the layer that makes it,
    or of the first layer that reads it in parts. Layers that run as one take and give theirs at the same time, and make
    none between them, but may write some over others: what is in the cache takes half the time to write. Diffs that
    nobody overwrites, such as loss weights and those of unread tops, keep a buffer of their own.
    """
    step_of = {index: number for number, step in enumerate(net.steps) for index in step}
    makers = _makers(net)
    for index, parts in net.joined.items():
        makers[id(net.tops[index][0])] = min(makers[id(part)] for part in parts)
    last_readers: dict[int, int] = {}
    for index, (bottom, wanted) in enumerate(zip(net.bottoms, net.bottom_need_backward, strict=True)):
        for blob, want in zip(bottom, wanted, strict=True):
            if want and net.layer_need_backward[index]:
                last_readers[id(blob)] = index
    blobs = [blob for name, blob in net.blobs.items() if id(blob) in last_readers and name not in net.hidden]
    families = _families(blobs, net.overwritten)
    lifetimes = [
        Lifetime(
            family[0].count,
            min(step_of[makers[id(blob)]] for blob in family),
            max(step_of[last_readers[id(blob)]] for blob in family),
        )
        for family in families
    ]
    for group in plan_buffers(lifetimes):
        pool([blob for member in group for blob in families[member]], "diff")


def _families(blobs: Sequence[Blob], pairs: Sequence[tuple[Blob, Blob]]) -> list[list[Blob]]:
    """The blobs, those together that are a pair of one count, and what is a pair with them."""
    family_of = {id(blob): [blob] for blob in blobs}
    for one, other in pairs:
        if id(one) in family_of and id(other) in family_of and one.count == other.count:
            family = [*family_of[id(one)], *family_of[id(other)]]
            family_of.update((id(blob), family) for blob in family)
    return list({id(family): family for family in family_of.values()}.values())


def share_activations(*nets: Net) -> None:
    """Let nets that never run at the same time keep what their layers compute in the same memory.

    Outputs are left out, and the tops of layers without bottoms: data may stay there from one pass to the next.
    """
    families = [_computed_data(net) for net in nets]
    counts = [[family[0].count for family in own] for own in families]
    for group in group_by_size(*counts):
        pool([blob for net, index in group for blob in families[net][index]], "data")


def _makers(net: Net) -> dict[int, int]:
    """The index of the layer that first makes each blob, by the blob's id."""
    makers: dict[int, int] = {}
    for index, top in enumerate(net.tops):
        for blob in top:
            makers.setdefault(id(blob), index)
    return makers


def _computed_data(net: Net) -> list[list[Blob]]:
    """What layers with bottoms make for other layers, those that share their data (splits) together."""
    given = [blob for bottom, top in zip(net.bottoms, net.tops, strict=True) if not bottom for blob in top]
    kept = {blob.buffer("data") for blob in given}
    families: dict[int, list[Blob]] = {}
    left_out = {*net.outputs, *net.hidden, *net.placed}
    for blob in net.blobs.values():
        if blob.name not in left_out and blob.buffer("data") not in kept:
            families.setdefault(blob.buffer("data"), []).append(blob)
    return list(families.values())
