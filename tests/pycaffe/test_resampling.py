import numpy as np
import pytest

from blobnet.pycaffe import resampling

LINE = np.array([3.0, 1, 4, 1, 5, 9])

# scipy.ndimage.zoom (SciPy 1.17) of LINE to 8 values, mode "mirror"
ZOOMED = {
    2: [3.0, 1.215582, 2.213161, 3.871063, 1.145827, 2.68902, 6.529668, 9.0],
    3: [3.0, 1.287695, 2.283706, 3.849387, 1.250799, 2.473517, 6.696932, 9.0],
    4: [3.0, 1.260191, 2.241173, 3.898945, 1.288642, 2.318374, 6.77998, 9.0],
    5: [3.0, 1.280886, 2.21422, 3.921286, 1.328768, 2.235814, 6.822794, 9.0],
}

# skimage.transform.resize (scikit-image 0.26): columns of LINE / 10, two of them, made 9 x 2 at mode "edge"
ENLARGED = {
    2: [0.319548, 0.169012, 0.128656, 0.386295, 0.250253, 0.113312, 0.414498, 0.739574, 0.9],
    3: [0.323777, 0.159666, 0.137366, 0.382558, 0.256106, 0.108858, 0.402412, 0.75082, 0.9],
    4: [0.329273, 0.150134, 0.138262, 0.3849, 0.26273, 0.10146, 0.396406, 0.76293, 0.9],
    5: [0.33225, 0.144927, 0.140287, 0.384221, 0.266863, 0.1, 0.391847, 0.770312, 0.9],
}

# and made 4 x 3 at mode "constant": the middle column
SHRUNK = {
    2: [0.323818, 0.427828, 0.148453, 0.9],
    3: [0.317826, 0.426571, 0.136041, 0.9],
    4: [0.323487, 0.434894, 0.116268, 0.9],
    5: [0.323272, 0.432902, 0.103848, 0.9],
}


def columns(line, count):
    return line[:, np.newaxis, np.newaxis] * np.ones((1, count, 1))


def test_linear_resizing_between_pixel_centres():
    larger = resampling.resize(columns(np.arange(4.0), 4), (8, 4), mode="edge")[:, 0, 0]
    np.testing.assert_allclose(larger, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_linear_zoom_between_corner_pixels():
    corners = resampling.zoom(columns(np.arange(4.0), 4), (7, 4))[:, 0, 0]
    np.testing.assert_allclose(corners, [0, 0.5, 1, 1.5, 2, 2.5, 3])


@pytest.mark.parametrize("order", ZOOMED)
def test_splines_as_scipy_and_scikit_image_draw_them(order):
    zoomed = resampling.zoom(columns(LINE, 3), (8, 3), order)
    np.testing.assert_allclose(zoomed[:, 1, 0], ZOOMED[order], atol=1e-6)
    across = resampling.zoom(columns(LINE, 3).transpose(1, 0, 2), (3, 8), order)
    np.testing.assert_allclose(across[1, :, 0], ZOOMED[order], atol=1e-6)
    enlarged = resampling.resize(columns(LINE / 10, 2), (9, 2), order, "edge")
    np.testing.assert_allclose(enlarged[:, 0, 0], ENLARGED[order], atol=1e-6)
    shrunk = resampling.resize(columns(LINE / 10, 2), (4, 3), order, "constant")
    np.testing.assert_allclose(shrunk[:, 1, 0], SHRUNK[order], atol=1e-6)


@pytest.mark.parametrize("order", range(6))
def test_curves_go_through_the_pixels(order):
    image = np.random.default_rng(order).random((5, 7, 4))
    zoomed = resampling.zoom(image, (9, 13), order)
    np.testing.assert_allclose(zoomed[::2, ::2], image, atol=1e-12)
    np.testing.assert_allclose(resampling.zoom(image[:1], (3, 7), order), image[[0, 0, 0]], atol=1e-12)
