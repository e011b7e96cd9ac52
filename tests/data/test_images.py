"""Images against PIL's and OpenCV's own writers, and resizing against a slow loop and OpenCV's INTER_AREA."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from raytrans.data.images import (
    bounded_size,
    image_size,
    read_depth,
    read_image,
    read_mask,
    resize_area,
    resize_nearest,
)


def pixels(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def slow_area(image, height, width):
    """Integral of the piecewise constant image over every new pixel, pixel by pixel."""
    out = np.zeros((height, width, image.shape[2]))
    fy, fx = image.shape[0] / height, image.shape[1] / width
    for i in range(height):
        for j in range(width):
            weight = 0.0
            for k in range(image.shape[0]):
                for m in range(image.shape[1]):
                    y = max(0.0, min((i + 1) * fy, k + 1) - max(i * fy, k))
                    x = max(0.0, min((j + 1) * fx, m + 1) - max(j * fx, m))
                    out[i, j] += x * y * image[k, m]
                    weight += x * y
            out[i, j] /= weight
    return out


@pytest.mark.parametrize("size", [(3, 4), (5, 2), (1, 1), (7, 9)])
def test_resize_area_is_the_integral_over_each_new_pixel(size):
    image = np.random.default_rng(1).random((7, 9, 3))
    np.testing.assert_allclose(resize_area(torch.from_numpy(image), *size).numpy(), slow_area(image, *size), atol=1e-12)


def test_resize_area_agrees_with_opencv_for_whole_ratios():
    image = np.random.default_rng(2).random((24, 36, 3)).astype(np.float32)
    expected = cv2.resize(image, (12, 6), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(resize_area(torch.from_numpy(image), 6, 12).numpy(), expected, atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_resize_area_keeps_the_mean(height, width, new_height, new_width):
    image = torch.from_numpy(np.random.default_rng(3).random((height, width, 3)))
    out = resize_area(image, new_height, new_width)
    torch.testing.assert_close(out.mean((0, 1)), image.mean((0, 1)))


def test_resize_nearest_takes_the_value_under_the_new_centre():
    image = torch.arange(24.0).reshape(4, 6)
    assert resize_nearest(image, 2, 3).tolist() == [[7, 9, 11], [19, 21, 23]]
    assert resize_nearest(image, 8, 6)[:, 0].tolist() == [0, 0, 6, 6, 12, 12, 18, 18]


@pytest.mark.parametrize(
    "size, bound, expected",
    [((540, 960), 200, (113, 200)), ((960, 540), 640, (640, 360)), ((30, 40), 100, (30, 40)), ((1000, 1), 10, (10, 1))],
)
def test_bounded_size(size, bound, expected):
    assert bounded_size(*size, bound) == expected


def test_bounded_size_refuses_nothing_at_all():
    with pytest.raises(ValueError, match="max_size: expected at least 1, got 0"):
        bounded_size(4, 4, 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_eight_bit_images_read_as_pil_shows_them(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture = Image.fromarray(pixels(5, 7, 3)).convert(mode)
    picture.save(path)
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB")) / 255
    image = read_image(path)
    assert image.dtype == torch.float32 and image.shape == (5, 7, 3)
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [None, 3, 4])
def test_sixteen_bits_are_kept(tmp_path, channels):
    values = pixels(5, 7, *([channels] if channels else []), dtype=np.uint16)
    stored = values if channels is None else values[..., [2, 1, 0, 3][:channels]]
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    expected = values / 65535.0
    if channels is None:
        expected = np.repeat(expected[..., None], 3, -1)
    if channels == 4:
        expected = expected[..., :3] * expected[..., 3:] + 1 - expected[..., 3:]
    np.testing.assert_allclose(read_image(tmp_path / "a.png").numpy(), expected, atol=2e-7)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_put_on_the_background(tmp_path, mode):
    picture = Image.fromarray(pixels(5, 7, 4)).convert(mode)
    picture.save(tmp_path / "a.png")
    values = np.asarray(picture.convert("RGBA")) / 255.0
    color, alpha = values[..., :3], values[..., 3:]
    np.testing.assert_allclose(read_image(tmp_path / "a.png").numpy(), color * alpha + 1 - alpha, atol=1e-6)
    on_red = read_image(tmp_path / "a.png", background=(1.0, 0.0, 0.0)).numpy()
    np.testing.assert_allclose(on_red, color * alpha + (1 - alpha) * [1, 0, 0], atol=1e-6)


TURNS = {  # published meaning of the EXIF orientation: what to do with the stored rows to see the picture upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(tmp_path, orientation):
    picture = Image.fromarray(np.repeat(np.repeat(pixels(4, 6, 3), 8, 0), 8, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    raw = cv2.imread(str(tmp_path / "a.jpg"), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    stored = raw[..., ::-1] / 255.0
    upright = TURNS[orientation](stored)
    assert image_size(tmp_path / "a.jpg") == ((32, 48), upright.shape[:2])
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").numpy(), upright, atol=0.02)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg", upright=False).numpy(), stored, atol=0.02)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_image_is_an_error_that_names_it(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(pixels(64, 64, 3)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"cut{suffix}") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_a_cut_sixteen_bit_image_is_an_error(tmp_path):
    path = tmp_path / "cut.png"
    cv2.imwrite(str(path), pixels(64, 64, 3, dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match="cut.png"):
        read_image(path)


@pytest.mark.parametrize("content", [None, b"not an image"])
def test_missing_and_foreign_files_are_errors(tmp_path, content):
    path = tmp_path / "b.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="b.png"):
        read_image(path)
    with pytest.raises(ValueError, match="b.png"):
        image_size(path)


def test_depth_of_sixteen_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), np.array([[0, 1, 1500], [65535, 2, 3]], np.uint16))
    depth = read_depth(tmp_path / "d.png", 1e-3)
    assert depth.dtype == torch.float32
    expected = np.array([[np.nan, 0.001, 1.5], [65.535, 0.002, 0.003]], np.float32)
    np.testing.assert_allclose(depth.numpy(), expected, rtol=1e-6)


def test_depth_arrays(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[0.0, 2.0, np.nan, np.inf, -1.0]]))
    np.testing.assert_allclose(read_depth(tmp_path / "d.npy", 0.5).numpy(), [[np.nan, 1.0, np.nan, np.nan, np.nan]])
    np.save(tmp_path / "e.npy", np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"e.npy: expected a depth map \(H, W\), got shape \(2, 2, 2\)"):
        read_depth(tmp_path / "e.npy", 1.0)
    (tmp_path / "f.npy").write_bytes((tmp_path / "d.npy").read_bytes()[:-9])
    with pytest.raises(ValueError, match="f.npy"):
        read_depth(tmp_path / "f.npy", 1.0)


def test_depth_values_that_mean_none(tmp_path):
    Image.fromarray(np.array([[0, 5, 65535, 65534]], np.uint16)).save(tmp_path / "d.png")
    np.testing.assert_array_equal(read_depth(tmp_path / "d.png", 1.0)[0].tolist(), [np.nan, 5, 65535, 65534])
    np.testing.assert_array_equal(
        read_depth(tmp_path / "d.png", 2.0, invalid=(65535, 5)).tolist(), [[np.nan, np.nan, np.nan, 131068]]
    )


def test_sizes_are_read_without_the_pixels(tmp_path):
    """A PNG file whose pixels are broken, with the EXIF orientation behind them, as the format allows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    block, rest = content[start : start + length], content[:start] + content[start + length :]
    broken = rest.index(b"IDAT") + 4
    rest = rest[:broken] + bytes(4) + rest[broken + 4 :]
    end = rest.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(rest[:end] + block + rest[end:])
    assert image_size(tmp_path / "a.png") == ((8, 12), (12, 8))
    with pytest.raises(ValueError, match="broken or cut image"):
        read_image(tmp_path / "a.png")


def test_orientations_kept_as_text_count_as_they_do_for_pil(tmp_path):
    """ImageMagick writes EXIF as a text chunk, other programs XMP; both turn the decoded picture."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"></x:xmpmeta>')
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert image_size(tmp_path / "a.png") == ((8, 12), (12, 8))
    assert tuple(read_image(tmp_path / "a.png").shape) == (12, 8, 3)


def test_an_empty_file_is_an_error_that_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="a.png: an empty file, expected an image"):
        image_size(tmp_path / "a.png")


def test_eight_bit_depth_is_refused(tmp_path):
    Image.fromarray(pixels(4, 4)).save(tmp_path / "d.png")
    with pytest.raises(ValueError, match="d.png: expected a grey depth image of 16 or 32 bits"):
        read_depth(tmp_path / "d.png", 1.0)


def test_masks(tmp_path):
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    alpha = np.zeros((1, 4, 4), np.uint8)
    alpha[..., 3] = grey
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")
    for name in ("grey", "alpha", "bits"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == [[False, False, True, True]]
