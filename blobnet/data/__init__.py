"""From records on disk to batches: databases, transformer, prefetch. The data layers stand on this room."""
