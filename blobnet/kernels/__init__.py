"""The loops: numba-jitted functions of arrays and numbers that know neither Blob nor proto."""
