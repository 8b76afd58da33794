"""Replay: what a step of a net has run, run again without the Python in between."""

import threading
from collections.abc import Callable, Sequence

from blobnet import config
from blobnet.blob import Blob, latest_move
from blobnet.kernels import parallel

# Places that are remembered: where two blobs exchange their memory at each pass, it is the same at every other one.
MOST_PLACES = 2


class _Recording:
    """What a step runs while its blobs lie in some place; nothing yet when it has run there once."""

    def __init__(self, place: tuple, blobs: Sequence[Blob]):
        self.place = place
        self._alive = [blob.memory for blob in blobs]  # so that no other memory takes its place
        self._calls: list[Callable[[], bool]] | None = None
        self._summed: list[Blob] = []

    def record(self, run: Callable[[], object], sums: Sequence[Blob]) -> None:
        self._calls = parallel.record(run)
        self._summed = [blob for blob in sums if not blob.cleared]

    def repeat(self) -> bool:
        """Whether there is a recording, and all of it could be done again."""
        if self._calls is None or any(call() for call in self._calls):
            return False
        for blob in self._summed:
            blob.gradient_sum()
        return True


class Replay:
    """Runs a step that is ``steady``: the layer's or group's regions alone while its blobs keep their memory.

    They are recorded when the step runs a second time as before; what the first time makes to keep is not made again.

    blobs  all that the step reads and writes
    sums   those to whose diffs it adds: where one is not cleared before, nothing is recorded or repeated
    """

    def __init__(self, blobs: Sequence[Blob], sums: Sequence[Blob] = ()):
        self._blobs, self._sums = blobs, sums
        self._recordings: list[_Recording] = []
        self._looked: tuple | None = None  # when the blobs were looked at last
        self._found: _Recording | None = None  # and the recording of where they were

    def run(self, run: Callable[[], object]) -> None:
        """Do what ``run`` does."""
        if parallel.is_watched() or not all(blob.cleared for blob in self._sums):
            run()
            return
        recording = self._recording()
        if recording is None:
            self._keep([*self._recordings[1 - MOST_PLACES :], _Recording(self._place(), self._blobs)])
            run()
        elif not recording.repeat():
            recording.record(run, self._sums)

    def forget(self) -> None:
        """What has been recorded is out of date."""
        self._keep([])

    def _keep(self, recordings: list[_Recording]) -> None:
        self._recordings, self._looked = recordings, None

    def _recording(self) -> _Recording | None:
        """The recording of the present place, which is the same as before where no blob has moved."""
        now = latest_move(), threading.get_ident(), config.threads()
        if now != self._looked:
            place = self._place()
            self._found = next((recording for recording in self._recordings if recording.place == place), None)
            self._looked = now
        return self._found

    def _place(self) -> tuple:
        """The thread, to which work arrays belong, and where the blobs are."""
        shapes, parts = [blob.shape for blob in self._blobs], [id(part) for blob in self._blobs for part in blob.memory]
        return threading.get_ident(), config.threads(), shapes, parts
