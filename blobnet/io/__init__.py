"""Files in and out: messages, blobs, weights, means, images, HDF5. A fault of a file is a BlobnetError."""
