from blobnet.passes.gradients import LayerFacts, plan_backward


def layer(bottoms="", tops="", *, learns=False, loss=False, down=(), can=None):
    bottoms, tops = bottoms.split(), tops.split()
    return LayerFacts(bottoms, tops, down, learns, [loss] * len(tops), can or [True] * len(bottoms))


def test_backward_starts_at_the_first_layer_that_learns():
    plan = plan_backward(
        [
            layer("", "data label"),
            layer("data", "norm"),
            layer("norm", "ip", learns=True),
            layer("ip", "relu"),
            layer("relu label", "loss", loss=True),
        ]
    )
    assert plan.layers == [False, False, True, True, True]
    assert plan.bottoms == [[], [False], [False], [True], [True, False]]


def test_what_leads_to_no_loss_runs_no_backward():
    plan = plan_backward(
        [
            layer("", "data label"),
            layer("data", "ip", learns=True),
            layer("ip", "a b"),
            layer("a label", "loss", loss=True),
            layer("b label", "accuracy"),
        ]
    )
    assert plan.layers == [False, True, True, True, False]
    assert plan.bottoms[4] == [False, False]


def test_propagate_down_false_cuts_the_way():
    plan = plan_backward(
        [
            layer("", "data"),
            layer("data", "ip1", learns=True),
            layer("ip1", "ip2", learns=True, down=[False]),
            layer("ip2", "loss", loss=True),
        ]
    )
    assert plan.layers == [False, False, True, True]


def test_force_backward_asks_for_all_a_layer_can_give():
    plan = plan_backward(
        [layer("", "data label"), layer("data label", "loss", loss=True, can=[True, False])], force=True
    )
    assert plan.layers == [True, True]
    assert plan.bottoms == [[], [True, False]]
