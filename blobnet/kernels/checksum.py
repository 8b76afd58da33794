"""CRC-32C (Castagnoli), the checksum of LevelDB's blocks and log records."""

import numpy as np

from blobnet.kernels._jit import jit

_POLYNOMIAL = 0x82F63B78


def _table() -> np.ndarray:
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(_POLYNOMIAL)
    return table


TABLE = _table()


@jit
def crc32c(data, table):
    """The checksum of a byte array."""
    crc = np.uint32(0xFFFFFFFF)
    for index in range(data.size):
        crc = table[(crc ^ data[index]) & 0xFF] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def masked(data: bytes) -> int:
    """The checksum of bytes, rotated and shifted as the files of LevelDB and TensorFlow hold it."""
    crc = int(crc32c(np.frombuffer(data, np.uint8), TABLE))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
