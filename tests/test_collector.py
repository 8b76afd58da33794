import gc

import pytest

from blobnet import collector


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_in_the_block_and_is_then_as_before(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(KeyError), collector.paused():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_what_is_loaded_is_never_looked_at():
    try:
        with collector.loading():
            assert not gc.isenabled()
            loaded = [[]]
        assert gc.isenabled()
        assert not any(found is loaded for found in gc.get_objects(generation=2))
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
