import logging
import math

import numpy as np
import pytest

from blobnet import fillers, solvers
from blobnet.errors import BlobnetError
from blobnet.kernels import update
from blobnet.solvers import Action
from tests.solvers.small import NET, Events, create, write

QUIET = "snapshot_after_train: false"
TESTED = "test_iter: 2 test_interval: 2"

FED = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 1 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1 bias_term: false } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


class Feed(solvers.Callback):
    """Gives the net the inputs 1, 2, 3, ... and the target 0, so that with weight w the loss is (w x)^2 / 2."""

    def __init__(self):
        self.passes = 0

    def on_forward(self, solver, net):
        self.passes += 1
        net.set_input("x", [[self.passes]])


def fed(folder, fields):
    solver = create(folder, fields, FED, callbacks=[Feed()])
    solver.net.params["ip"][0].data[...] = 1
    return solver


def test_one_iteration_in_caffes_order(tmp_path):
    events = Events()
    create(tmp_path, f"{TESTED} display: 2 snapshot: 2 iter_size: 2", callbacks=[events]).step(2)
    tested = ["test forward", "test forward", "test 0"]
    first = [*tested, "forward", "forward", "display 0", "gradients", "iteration 1"]
    assert events.events == [*first, "forward", "forward", "gradients", "iteration 2", "snapshot 2"]


def test_solve_tests_the_saved_weights_before_its_last_display(tmp_path):
    events = Events()
    create(tmp_path, f"{TESTED} display: 2 snapshot: 4", callbacks=[events]).solve()
    assert events.events[0] == "start"
    tested = ["test forward", "test forward", "test 0"]
    assert events.events[-8:] == ["iteration 6", "snapshot 6", *tested, "forward", "display 6", "finish"]


def test_no_second_snapshot_at_the_end(tmp_path):
    events = Events()
    create(tmp_path, "snapshot: 3", callbacks=[events]).solve()
    assert [event for event in events.events if "snapshot" in event] == ["snapshot 3", "snapshot 6"]


def test_test_initialization_false_leaves_out_the_first_test(tmp_path):
    events = Events()
    create(tmp_path, f"{TESTED} test_initialization: false {QUIET}", callbacks=[events]).solve()
    assert events.events.count("test 0") == 3
    assert events.events[1] == "forward"


def test_gradients_sum_over_iter_size_and_the_update_divides(tmp_path):
    solver = fed(tmp_path, f"iter_size: 2 {QUIET}")
    solver.step(1)
    gradient = (1 + 4) / 2  # w x^2 with w = 1, mean over x = 1, 2
    assert solver.net.params["ip"][0].data.item() == pytest.approx(1 - 0.1 * gradient)
    assert solver.net.params["ip"][0].diff.item() == pytest.approx(0.1 * gradient)


def test_clipping_sees_the_sum_and_not_the_decay(tmp_path):
    solver = fed(tmp_path, f"iter_size: 2 clip_gradients: 2 weight_decay: 0.5 {QUIET}")
    solver.step(1)
    assert solver.net.params["ip"][0].data.item() == pytest.approx(1 - 0.1 * (2 / 2 + 0.5))


def test_clipping_sees_the_mean_when_asked(tmp_path):
    """Gradients 1 and 4 (w x^2 at x = 1, 2): their sum is 5, their mean 2.5."""
    solver = fed(tmp_path, f"iter_size: 2 clip_gradients: 2 clip_after_mean: true {QUIET}")
    solver.step(1)
    assert solver.net.params["ip"][0].data.item() == pytest.approx(1 - 0.1 * 2)


def test_apply_update_makes_one_update(tmp_path):
    solver = fed(tmp_path, QUIET)
    solver.net.params["ip"][0].diff[...] = 3
    solver.apply_update()
    assert solver.net.params["ip"][0].data.item() == pytest.approx(1 - 0.1 * 3)
    assert (solver.iter, solver.lr) == (1, pytest.approx(0.1))


def test_displayed_loss_is_the_mean_of_the_last_ones(tmp_path):
    events = Events()
    solver = fed(tmp_path, f"display: 1 average_loss: 3 base_lr: 0 {QUIET}")
    solver.callbacks.append(events)
    solver.step(5)
    losses = [x * x / 2 for x in range(1, 6)]
    means = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(5)]
    assert [record.loss for record in events.records] == pytest.approx(means)
    last = events.records[-1]
    assert last.outputs == [solvers.Output("loss", 0, losses[-1], 1.0)]
    assert (last.iteration, last.lr) == (4, 0) and last.seconds >= 0


def test_test_all_gives_means_over_the_batches(tmp_path):
    solver = fed(tmp_path, f"test_iter: 3 test_interval: 5 test_compute_loss: true {QUIET}")
    events = Events()
    solver.callbacks.append(events)
    [result] = solver.test_all()
    mean = (1 + 4 + 9) / 2 / 3
    assert result == ([solvers.Output("loss", 0, pytest.approx(mean), 1.0)], pytest.approx(mean))
    assert events.tests == [result]


def test_an_output_that_changes_its_shape_has_no_mean(tmp_path):
    class Grow(solvers.Callback):
        def on_forward(self, solver, net):
            net.set_input("x", np.ones((net.blobs["x"].shape[0] + 1, 1)))

    net = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 } } }'
    solver = create(tmp_path, f"test_iter: 2 test_interval: 1 {QUIET}", net, callbacks=[Grow()])
    with pytest.raises(BlobnetError, match=r'"x" has shapes \(2, 1\) and \(3, 1\) in two batches'):
        solver.test_all()


def test_outputs_are_numbered_over_all_their_values(tmp_path):
    net = NET.replace("include { phase: TEST }", 'include { phase: TEST stage: "never" }')
    solver = create(tmp_path, f"test_iter: 1 test_interval: 1 {QUIET}", net)
    [result] = solver.test_all()
    numbered = [(output.name, output.index) for output in result.outputs]
    assert numbered == [("ip", index) for index in range(8)] + [("t", index) for index in range(8, 16)]
    assert result.loss is None and {output.loss_weight for output in result.outputs} == {0.0}


def test_stop_after_an_iteration(tmp_path):
    events = Events([Action.NONE, Action.STOP])
    solver = create(tmp_path, "display: 1", callbacks=[events])
    solver.solve()
    assert solver.iter == 2 and solver.stopped
    assert events.events[-2:] == ["snapshot 2", "finish"]
    solver.solve()
    assert solver.iter == 6 and not solver.stopped


def test_snapshot_on_request(tmp_path):
    events = Events([Action.SNAPSHOT])
    create(tmp_path, QUIET, callbacks=[events]).solve()
    assert [event for event in events.events if "snapshot" in event] == ["snapshot 1"]


def test_stop_during_a_test(tmp_path):
    events = Events([Action.NONE, Action.STOP])
    solver = create(tmp_path, f"{TESTED} {QUIET}", callbacks=[events])
    solver.solve()
    assert events.events == ["start", "test forward", "finish"]
    assert solver.iter == 0 and solver.test_all() != []


def test_all_callbacks_are_asked(tmp_path):
    events = Events([Action.SNAPSHOT])
    solver = create(tmp_path, QUIET, callbacks=[Events([Action.STOP]), events])
    solver.solve()
    assert solver.iter == 1 and events.events[-2:] == ["snapshot 1", "finish"]


def test_test_nets_share_the_weights(tmp_path):
    solver = create(tmp_path, f"{TESTED} {QUIET}")
    solver.step(1)
    [test_net] = solver.test_nets
    assert np.shares_memory(test_net.params["ip"][0].data, solver.net.params["ip"][0].data)


def test_only_weights_that_a_net_keeps_are_filled(tmp_path, monkeypatch):
    filled, fill = [], fillers.fill
    monkeypatch.setattr(fillers, "fill", lambda blob, *how: filled.append(blob.name) or fill(blob, *how))
    own = """layer { name: "own" type: "InnerProduct" bottom: "ip" top: "own" include { phase: TEST }
        inner_product_param { num_output: 1 weight_filler { type: "uniform" } } }"""
    solver = create(tmp_path, TESTED, NET + own)
    assert filled == ["ip[0]", "own[0]"]
    assert solver.test_nets[0].params["own"][0].data.all()


def test_states_select_the_layers(tmp_path):
    net = NET.replace("include { phase: TEST }", 'include { phase: TEST stage: "full" }')
    fields = (
        f'test_iter: 1 test_iter: 1 test_interval: 1 test_state {{ stage: "full" }} test_state {{ level: 1 }} {QUIET}'
    )
    solver = create(tmp_path, fields, net)
    assert [test_net.outputs for test_net in solver.test_nets] == [["error"], ["ip", "t"]]
    net = NET.replace("include { phase: TRAIN }", 'include { phase: TRAIN stage: "drop" }', 1)
    assert "drop" in create(tmp_path / "b", f'train_state {{ stage: "drop" }} {QUIET}', net).net.layer_names


def test_test_nets_come_in_caffes_order(tmp_path):
    (tmp_path / "other.prototxt").write_text(NET.replace("small", "other"))
    embedded = NET.replace("small", "embedded")
    fields = f'test_net: "other.prototxt" test_net_param {{ {embedded} }} test_iter: [1, 1, 1, 1] test_interval: 1'
    solver = create(tmp_path, f"{fields} {QUIET}")
    assert [test_net.name for test_net in solver.test_nets] == ["embedded", "other", "small", "small"]


def test_weights_are_loaded_from_comma_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = create(tmp_path / "a", f'snapshot_prefix: "{tmp_path}/w"')
    paths = first.snapshot()
    second = create(tmp_path / "b", f'random_seed: 9 weights: "{paths.model}, {paths.model}" {QUIET}')
    np.testing.assert_array_equal(second.net.params["ip"][0].data, first.net.params["ip"][0].data)


def test_a_solver_of_ones_own(tmp_path):
    def sign(start, stop, data, diff, scalars):
        rate, floor = scalars[update.RATE :]
        diff[start:stop] = rate * np.maximum(np.abs(np.sign(diff[start:stop])), floor)
        data[start:stop] -= diff[start:stop]

    @solvers.register("Sign")
    class Sign(solvers.Solver):
        kernel = sign
        history_count = 0

        def constants(self):
            return [0.5]

    assert "Sign" in solvers.solver_types()
    solver = fed(tmp_path, f'type: "Sign" {QUIET}')
    solver.step(2)
    assert solver.net.params["ip"][0].data.item() == pytest.approx(1 - 0.1 - 0.1) and solver.history == []


def test_same_seed_same_bits(tmp_path):
    def trained(folder, seed):
        solver = create(folder, f"random_seed: {seed} {QUIET}")
        solver.solve()
        return solver.net.params["ip"][0].data.tobytes()

    assert trained(tmp_path / "a", 1) == trained(tmp_path / "b", 1) != trained(tmp_path / "c", 2)


SIAMESE = """
layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 3 dim: 4 dim: 6 dim: 6 } shape { dim: 3 dim: 2 }
  data_filler { type: "gaussian" } data_filler { type: "uniform" } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { name: "w" } param { lr_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "ip" type: "InnerProduct" bottom: "b" top: "ip" param { lr_mult: 0 } inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


def test_gradients_have_the_same_bits_whether_somebody_was_given_the_diffs_or_not(tmp_path):
    found = []
    for given in (True, False):
        solver = create(tmp_path, f"{QUIET} iter_size: 2 momentum: 0.9 weight_decay: 0.1", SIAMESE)
        params = solver.net.learnable_params
        assert not any(given and blob.diff.any() for blob in params)
        solver.step(3)
        found.append([*solver.history, *(array for blob in params for array in (blob.data, blob.gradient))])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_train_net_param_needs_no_file(tmp_path):
    from blobnet.proto import blobnet_pb2 as pb
    from blobnet.proto import text

    param = text.parse(f'train_net_param {{ {NET} }} base_lr: 0.1 lr_policy: "fixed" max_iter: 1', pb.SolverParameter())
    solver = solvers.create(param)
    solver.step(1)
    assert solver.iter == 1
    with pytest.raises(BlobnetError, match="snapshot_prefix must be given"):
        solver.snapshot()


def test_debug_info_logs_the_passes_of_display_iterations(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "blobnet"):
        create(tmp_path, f"display: 2 debug_info: true {QUIET}").step(2)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("[Forward] Layer ip, top blob ip data: " in line for line in lines) == 1
    assert sum("[Backward] Layer ip, param blob 1 diff: " in line for line in lines) == 1
    assert sum("All net params (data, diff): L1 norm = (" in line for line in lines) == 1


@pytest.mark.parametrize(
    "fields, parts",
    [
        ("iter_size: 0", ["solver.prototxt:2", "iter_size must be 1 or more", "got 0"]),
        ("test_iter: 0 test_interval: 1", ["solver.prototxt:2", "test_iter must be 1 or more"]),
        ("test_iter: 1 test_interval: 1 test_state { } test_state { }", ["test_state", "1 test nets", "got 2"]),
        ('regularization_type: "L3" weight_decay: 0.1', ["L1 or L2", '"L3"']),
        ('type: "SDG"', ["unknown solver type", 'did you mean "SGD"']),
        ('type: "AdaGrad" momentum: 0.5', ["AdaGrad works without momentum", "0.5"]),
        ('type: "RMSProp" rms_decay: 1', ["rms_decay must be in [0, 1)", "got 1"]),
        ('type: "Adam" momentum: 1', ["momentum must be in [0, 1)", "got 1"]),
    ],
)
def test_faulty_solver_names_line_rule_and_value(tmp_path, fields, parts):
    with pytest.raises(BlobnetError) as caught:
        create(tmp_path, fields)
    for part in parts:
        assert part in str(caught.value)


def test_solve_needs_max_iter(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text().replace("max_iter: 6", ""))
    with pytest.raises(BlobnetError, match="max_iter or max_epoch must be given"):
        solvers.create(path).solve()


def test_infinite_gradients_pass_through_clipping(tmp_path):
    solver = fed(tmp_path, f"clip_gradients: 1 {QUIET}")
    solver.net.params["ip"][0].diff[...] = math.inf
    solver.apply_update()
    assert math.isnan(solver.net.params["ip"][0].data.item())


def test_more_test_nets_than_anybody_tests_are_refused_before_one_is_built(tmp_path):
    fields = "test_interval: 1 " + "test_iter: 1 " * 101
    with pytest.raises(BlobnetError, match=r"solver.prototxt:\d+: a solver has at most 100 test nets; got 101"):
        create(tmp_path, f"{fields} {QUIET}")
