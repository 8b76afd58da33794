"""The sizes of tiles and blocks, and how far ahead memory is fetched: one table, with what chose each of them.

Measured on processors with AVX-512, with first caches of 32 to 48 KB and second ones of 1 to 2 MB. None of the sizes
changes what a kernel computes, but for the order of sums where it says so. From where on a way pays, its own file says.
"""

from blobnet.kernels.instructions import REGISTERS

# The matrix product's tile, rows by vectors of columns (MR and NV): so many vectors of sums, NV of one operand and one
# of the other must fit into the registers (Goto and van de Geijn 2008, section 6).
TILE_ROWS, TILE_VECTORS = 8 if REGISTERS == 32 else 4, 3

# ``product``

# Most rows, columns and depth of a block of float32; half as many columns and half as deep for float64. Of nine
# settings, over products and layers of AlexNet, ResNet, CIFAR-10 quick and LeNet, all lie within 3 % of the best.
BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_DEPTH = 256, 384, 256

# Likewise where a was packed for good and b is read in place: nothing is packed for a block, so that rows are shared
# out where columns are few, and what is read of both stays in the first cache. 3 x 3 filters on two threads: 512 of 512
# channels over 7 x 7 pixels 1.3 to 1.05 ms, 256 of 256 over 14 x 14 pixels 1.2 to 0.93, over eight of these 4.4 to 3.2.
BLOCK_ROWS_KEPT, BLOCK_DEPTH_KEPT = 64, 128

# Rows of results that are fetched before they are written: 51 MB in rows of 1.5 KB take 4.0 ms instead of 6.4.
ROWS_AHEAD = 4

# ``unpacked``

# Most rows of a block of the result, depth of a slice of its sums, and elements of the second operand that it reads for
# a slice, which stay in the second cache: the shorter the sums are, the longer the rows. With columns in the outer loop
# instead of rows, 32 to 128 channels over 56 x 56 and 112 x 112 pixels take 3 to 24 % longer.
UNPACKED_ROWS, UNPACKED_DEPTH, UNPACKED_ELEMENTS = 64, 256, 384 * 256

# Rows of the second operand from the one that is read to the one that is fetched: the processor does not foresee them.
UNPACKED_AHEAD = 16

# ``convolution``

# Where images are copied into frames first: output pixels that they are gathered for, enough for full blocks on every
# thread, or elements of frames, if that is more images: both stay in the cache.
PIXELS_AT_ONCE, FRAMES_AT_ONCE = 8192, 1 << 18

# ``winograd``

# Most elements of a channel of a block, for few channels and for many: those of all channels stay in the second cache.
WINOGRAD_ELEMENTS, MANY_CHANNELS, WINOGRAD_ELEMENTS_OF_MANY = 48 * 36, 256, 96 * 36

# Most tiles of a small image, least channels with which blocks are fetched there, and likewise elements: half as many
# leave room in the second cache for results and the next inputs, which come meanwhile. Batch 128, two threads:
# 32 channels of 16 x 16 take 1.37 ms instead of 1.58, 64 of 8 x 8 1.11 instead of 1.24; 56 x 56 take 4 % more.
SMALL_IMAGE, CHANNELS_TO_FETCH, WINOGRAD_ELEMENTS_OF_SMALL_IMAGES = 16, 32, 24 * 36

# Most tiles for which filters of many channels are transformed a few channels at a time, as they are multiplied.
FEW_TILES, CHANNELS_AT_ONCE = 160, 128

# Tiles whose transforms are kept at once for the gradient of the weights.
TILES_AT_ONCE = 128

# Where the sums of a gradient of the weights stay in the second cache, tiles are taken in groups of their own sums, as
# many at once as stay in the cache with them, more than once, lest the sums of the groups outweigh them. Half as many
# transforms at once gain nothing in 16 to 64 channels. The groups fix the order of sums.
MOST_SUMS, MOST_GROUPS, TRANSFORMS_AT_ONCE, TIMES_OF_A_GROUP = 64 * 64, 16, 48 * 128 * 36, 2

# ``shallow``

# Filters and taps of a tile of gradients.
SHALLOW_FILTERS, SHALLOW_TAPS = TILE_ROWS // 2, 5

# Bytes of a frame that all filters meet in the second cache, and of one that they meet, with so many bytes of a tile's
# gradients of the output, in the first.
FRAME_BYTES, FRAME_BYTES_BACKWARD = 1 << 16, 3 << 14

# ``spread``

# Most elements of a block's filters and columns, or of a channel's columns and the gradients for them: they stay in
# the second cache.
SPREAD_AT_ONCE = 1 << 18

# Panels that images of few pixels fill together.
SPREAD_PANELS = 4

# ``depthwise`` and ``depthwise_3x3``

# Neighbouring pixels that are summed at once: rows of ImageNet's nets are multiples of 7.
DEPTHWISE_PIXELS = 7

# Taps whose gradients are summed at once.
DEPTHWISE_TAPS = 9

# Bytes of a band of rows, which all strips go down while it is in the nearest cache. When a vector is read or written,
# what lies so far behind it is fetched: 64 channels of 112 x 112, batch 16, stride 2, take 1.4 ms instead of 2.1.
DEPTHWISE_BAND = 1 << 14

# ``recurrent``

# Inputs of the weights that are multiplied at once. With half as many, sums go to memory and back so often that 64
# streams of 512 cells take 2 to 4 % more.
RECURRENT_DEPTH = 512

# Panels of a slice that are multiplied one after the other for each tile of rows: they stay in the second cache. Those
# to be multiplied next come there meanwhile, so that 4 MB of weights, for 512 cells, take 6 % less time in all passes.
RECURRENT_PANELS = 3

# Inputs from those that are multiplied to those whose weights are fetched from the second cache to the first: with 16
# streams of 512 cells, steps take 2 to 4 % less.
RECURRENT_AHEAD = 16

# Rows that are multiplied at a time, so that weights come to the second cache once for all of them.
RECURRENT_ROWS = 256

# Steps whose inputs are projected at a time, likewise.
RECURRENT_STEPS = 16

# ``recurrent_gradients``

# Rows of a slice. With more, a panel of outputs leaves too little of the first cache to the panels it is multiplied by.
GRADIENT_DEPTH = 128

# Vectors of outputs in a block: two panels of three and one of two.
GRADIENT_VECTORS = 8

# Rows that are added to the sums of a bias at a time.
GRADIENT_ROWS = 8

# Vectors of each row of a gradient from those that are written to those that are fetched to be written.
GRADIENT_AHEAD = 4

# Loops over elements

# Vectors in hand at once: so many additions of a sum need not wait for each other.
ROW_VECTORS = 4

# Bytes ahead of those in hand that are fetched, to be read or to be written, into the rows that follow as well: rows of
# 1 to 12 KB, 26 MB of results in all, 5 to 3.5 ms on one thread and 2.4 to 1.7 on two; nothing lost in the cache.
ROW_AHEAD = 512

# Pixels of a plane that are turned, or summed, at once: of all lanes they stay in the nearest cache.
TURNED_AT_ONCE = 256

# Elements of an array that stay in the second cache, beside as many of another.
NORMALIZED_AT_ONCE = 1 << 17

# Columns that are done at once where windows span rows only: a block of hundreds of rows stays in the second cache.
WINDOW_COLUMNS = 256

# Elements that are searched at once for what is not finite.
SEARCHED_AT_ONCE = 1 << 16
