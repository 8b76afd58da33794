"""Side by side with PyTorch and others: what blobnet takes, what they take, and the ratio.

    python -m benchmarks.train        a training step of nine nets, against PyTorch
    python -m benchmarks.inference    their predictions, against ONNX Runtime and OpenVINO
    python -m benchmarks.kernels      their layers one by one, against PyTorch and against the machine's limits
    python -m benchmarks.recurrent    LSTM layers, against PyTorch

A ``job`` is a folder with a net, its weights and its inputs, which every engine reads. Each engine has a process of
its own (``turns``), so that neither threads nor memory are shared. ``ours``, ``torch_engine`` and ``predictors`` hold
the engines, ``torch_net`` translates a prototxt into a PyTorch module.
"""
