"""Replay: what steps of a net have run, run again without the Python in between."""

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from blobnet import config
from blobnet.blob import Blob, latest_move
from blobnet.kernels import parallel
from blobnet.kernels.parallel import Call, Obstacle, Recorded, Region, Regions

# Places that are remembered: where two blobs exchange their memory at each pass, it is the same at every other one, and
# diffs are cleared before the first of some passes whose gradients add up.
MOST_PLACES = 4


class _Part(NamedTuple):
    """Regions, and calls after them; each with the number of its step. A step whose call is None runs as before."""

    regions: Regions | None
    owners: Sequence[int]
    calls: Sequence[tuple[int, Callable[[], object] | None]]


class _Recording:
    """What steps run while their blobs lie in some place; nothing yet when they have run there once."""

    def __init__(self, place: tuple, blobs: Sequence[Blob]):
        self.place = place
        self._alive = [blob.memory for blob in blobs]  # so that no other memory takes its place
        self._parts: list[_Part] | None = None

    def run(self, run: Callable, steps: Sequence[tuple], sums: Sequence[Sequence[Blob]]) -> None:
        """Do what ``run(*step)`` does for each step."""
        if self._parts is None:
            self._record(run, steps, sums)
            return
        done = self._repeat(run, steps)
        if done < len(steps):
            self._parts = None
            for step in steps[done:]:
                run(*step)

    def _record(self, run: Callable, steps: Sequence[tuple], sums: Sequence[Sequence[Blob]]) -> None:
        """Run the steps; behind one that moved blobs and does more than its recording would, none is recorded.

        Nor is one that adds to what is there and may fail: run as before after that, it would add twice.
        """
        recorded: list[tuple[int, Recorded]] = []
        moved = False
        for number, step in enumerate(steps):
            move, cleared = latest_move(), [blob for blob in sums[number] if blob.cleared]
            found = parallel.record(functools.partial(run, *step))
            may_fail = any(isinstance(item, Region) and item.may_fail for item in found)
            adds = len(cleared) < len(sums[number])
            if moved or Obstacle.PYTHON in found or (adds and may_fail):
                found = [Obstacle.PYTHON]
                moved = moved or latest_move() != move
            else:
                found += [Call(blob.gradient_sum, in_order=False) for blob in cleared if not blob.cleared]
            recorded += [(number, item) for item in found]
        if not any(item is Obstacle.VALUES for _, item in recorded):
            self._parts = list(_parts(recorded))

    def _repeat(self, run: Callable, steps: Sequence[tuple]) -> int:
        """Do the steps again as long as all is as it was; returns how many have been done."""
        for regions, owners, calls in self._parts or ():
            succeeded = 0 if regions is None else regions.run()
            done = len(steps) if succeeded == len(owners) else owners[succeeded]
            for number, call in calls:
                if number >= done:
                    break
                if call is not None:
                    call()
                elif _moves_blobs(run, steps[number]):
                    return number + 1
            if done < len(steps):
                return done
        return len(steps)


def _moves_blobs(run: Callable, step: tuple) -> bool:
    """Run a step as before; whether blobs have moved."""
    move = latest_move()
    run(*step)
    return latest_move() != move


def _parts(recorded: Iterable[tuple[int, Recorded]]) -> Iterable[_Part]:
    """As few parts as the order of the calls allows."""
    regions: list[tuple[int, Region]] = []
    calls: list[tuple[int, Callable[[], object] | None]] = []
    closed = False
    for number, item in recorded:
        if isinstance(item, Region):
            if closed:
                yield _part(regions, calls)
                regions, calls, closed = [], [], False
            regions.append((number, item))
        elif isinstance(item, Call):
            calls.append((number, item.function))
            closed = closed or item.in_order
        else:
            calls.append((number, None))
            closed = True
    yield _part(regions, calls)


def _part(regions: Sequence[tuple[int, Region]], calls: Sequence[tuple[int, Callable[[], object] | None]]) -> _Part:
    together = Regions([each for _, each in regions]) if regions else None
    return _Part(together, [number for number, _ in regions], calls)


class Replay:
    """Runs steps that are ``steady``: the regions of layers or groups alone while their blobs keep their memory.

    They are recorded when the steps run a second time as before; what the first time makes to keep is not made again.

    blobs  all that the steps read and write
    sums   for each step, those to whose diffs it adds, to zeros where these are cleared
    """

    def __init__(self, blobs: Sequence[Blob], sums: Sequence[Sequence[Blob]] = ((),)):
        self._blobs, self._sums = blobs, sums
        self._recordings: list[_Recording] = []
        self._looked: tuple | None = None  # when the blobs were looked at last
        self._found: _Recording | None = None  # and the recording of where they were

    def run(self, run: Callable, steps: Sequence[tuple] = ((),)) -> None:
        """Do what ``run(*step)`` does for each step, which must be the same ones each time."""
        recording = None
        if not parallel.is_watched():
            recording = self._recording()
            if recording is None:
                self._keep([*self._recordings[1 - MOST_PLACES :], _Recording(self._place(), self._blobs)])
        if recording is None:
            for step in steps:
                run(*step)
        else:
            recording.run(run, steps, self._sums)

    def forget(self) -> None:
        """What has been recorded is out of date."""
        self._keep([])

    def _keep(self, recordings: list[_Recording]) -> None:
        self._recordings, self._looked = recordings, None

    def _recording(self) -> _Recording | None:
        """The recording of the present place, which is the same as before where no blob has moved."""
        now = latest_move(), self._circumstances()
        if now != self._looked:
            place = self._place()
            self._found = next((recording for recording in self._recordings if recording.place == place), None)
            self._looked = now
        return self._found

    def _place(self) -> tuple:
        """Where the blobs are."""
        shapes, parts = [blob.shape for blob in self._blobs], [id(part) for blob in self._blobs for part in blob.memory]
        return self._circumstances(), shapes, parts

    def _circumstances(self) -> tuple:
        """The thread, to which work arrays belong, how many share the work, and which sums begin at zero."""
        return threading.get_ident(), config.threads(), [blob.cleared for blob in itertools.chain(*self._sums)]
