"""Settings of the process: device, seed, log, and what several GPUs would take."""

import logging
import time

import numpy as np
import pytest

import blobnet.pycaffe as caffe
from blobnet import layers, streams
from blobnet.pycaffe import settings


def test_layer_types():
    types = caffe.layer_type_list()
    assert types == layers.layer_types()
    assert {"Data", "Convolution", "InnerProduct", "Python"} <= set(types)


def test_phases_and_version():
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    assert caffe.__version__ == "1.0.0"


def test_devices_are_accepted(caplog):
    caplog.set_level(logging.INFO, "blobnet")
    caffe.set_mode_cpu()
    caffe.set_device(0)
    assert caplog.messages == []
    caffe.set_mode_gpu()
    assert len(caplog.messages) == 1
    assert "the CPU runs" in caplog.messages[0]


def test_random_seed_repeats_the_fillers(folder, monkeypatch):
    monkeypatch.setattr(streams, "_seed", None)
    weights = []
    for seed in (3, 3, 4):
        caffe.set_random_seed(seed)
        weights.append(caffe.Net("deploy.prototxt", caffe.TEST).params["score"][0].data)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


def test_log_is_shown_when_asked_for(capsys):
    caffe.log("before")
    try:
        caffe.init_log()
        caffe.init_log(0, True)
        caffe.log("once")
        caffe.init_log(1)
        caffe.log("below the level")
    finally:
        settings._log_shown.close()
    shown = capsys.readouterr().err
    assert shown.count("once") == 1
    assert "below" not in shown
    assert "before" not in shown


def test_programs_quieten_the_log_as_they_would_glog(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "blobnet")
    for least, shown in (("2", False), ("0", True), ("", True)):
        monkeypatch.setenv("GLOG_minloglevel", least)
        caffe.log(f"at level {least}")
        assert (f"at level {least}" in caplog.messages) == shown


def test_one_solver_in_the_process(monkeypatch):
    monkeypatch.setattr(settings, "_solver", {"count": 1, "rank": 0})
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    caffe.set_multiprocess(True)
    assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)


def test_there_is_no_nccl():
    assert not caffe.has_nccl()
    for call in (caffe.NCCL.new_uid, lambda: caffe.NCCL(None, "uid")):
        with pytest.raises(RuntimeError, match="NCCL connects several GPUs"):
            call()


def test_timer_counts_milliseconds():
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    time.sleep(0.002)
    timer.stop()
    assert timer.ms >= 2
