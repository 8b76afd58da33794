"""The folder that ``blobnet python`` puts first on PYTHONPATH; its modules are found under their bare names."""
