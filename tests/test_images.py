"""Every kind of image that is taken, and every kind that is refused with advice."""

from __future__ import annotations

import io
import math
import struct
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import (
    array_shapes,
    arrays,
    boolean_dtypes,
    complex_number_dtypes,
    floating_dtypes,
    integer_dtypes,
    unicode_string_dtypes,
    unsigned_integer_dtypes,
)
from PIL import Image, ImageFile

from gabordiag import images
from gabordiag.errors import GabordiagError, InputError, UsageError
from gabordiag.images import load_image, require_larger_than_kernel
from gabordiag.objective.experiment import Experiment

ROWS, COLUMNS = 20, 30
# Unequal sides and no symmetry, so that a transposed or mirrored image shows.
GREY = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
ORIENTATION_TAG = 0x0112


def luma(colour):
    """ITU-R 601 grey, the definition of Pillow's `L`; rounded by Pillow, not here."""
    return colour @ np.array([0.299, 0.587, 0.114]) / 255


def save(path: Path, picture: Image.Image | np.ndarray, **options) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def refusal(source, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        load_image(source, **options)
    error = caught.value
    assert isinstance(error, GabordiagError)
    assert error.exit_code == 3
    assert 1 <= len(str(error).splitlines()) <= 2
    return error


def names_and_advises(error: InputError, path: Path, *words: str) -> None:
    assert str(path) in error.problem
    assert error.advice
    for word in words:
        assert word in str(error)


class TestFiles:
    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.PNG"])
    def test_lossless_grey_is_divided_by_255(self, tmp_path, name):
        image = load_image(save(tmp_path / name, GREY))
        assert image.dtype == np.float64
        np.testing.assert_array_equal(image, GREY / 255)

    def test_webp(self, tmp_path):
        image = load_image(save(tmp_path / "a.webp", np.dstack([GREY] * 3), lossless=True))
        np.testing.assert_array_equal(image, GREY / 255)

    def test_jpeg(self, tmp_path):
        smooth = np.add.outer(np.arange(64), 2 * np.arange(48)).astype(np.uint8)
        image = load_image(save(tmp_path / "a.jpg", smooth, quality=95))
        assert image.shape == (64, 48)
        np.testing.assert_allclose(image, smooth / 255, atol=3 / 255)

    def test_a_string_is_a_path_too(self, tmp_path):
        path = save(tmp_path / "a.png", GREY)
        np.testing.assert_array_equal(load_image(str(path)), load_image(path))

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_sixteen_bit_is_divided_by_65535(self, tmp_path, name):
        deep = np.random.default_rng(3).integers(0, 65536, (ROWS, COLUMNS), dtype=np.uint16)
        image = load_image(save(tmp_path / name, deep))
        np.testing.assert_array_equal(image, deep / 65535)
        # Low bits matter: cut to 8 bits, the image would differ by up to 1/255.
        assert np.abs(image - (deep >> 8) / 255).max() > 1e-3

    def test_big_endian_sixteen_bit(self, tmp_path):
        deep = np.random.default_rng(3).integers(0, 65536, (ROWS, COLUMNS), dtype=np.uint16)
        picture = Image.frombytes("I;16B", (COLUMNS, ROWS), deep.astype(">u2").tobytes())
        np.testing.assert_array_equal(load_image(save(tmp_path / "a.tif", picture)), deep / 65535)

    def test_float_tiff_is_used_as_it_is(self, tmp_path):
        values = np.random.default_rng(4).normal(size=(ROWS, COLUMNS)).astype(np.float32)
        np.testing.assert_array_equal(load_image(save(tmp_path / "a.tif", values)), values)

    def test_one_bit(self, tmp_path):
        picture = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
        image = load_image(save(tmp_path / "a.png", picture))
        np.testing.assert_array_equal(image, GREY >= 128)

    def test_colour_becomes_pillows_grey(self, tmp_path):
        image = load_image(save(tmp_path / "a.png", COLOUR))
        np.testing.assert_allclose(image, luma(COLOUR), atol=0.51 / 255)

    def test_palette(self, tmp_path):
        palette = np.random.default_rng(5).integers(0, 256, (8, 3), dtype=np.uint8)
        indices = GREY % 8
        picture = Image.fromarray(indices)
        picture.putpalette(palette.tobytes())
        assert picture.mode == "P"
        image = load_image(save(tmp_path / "a.png", picture))
        np.testing.assert_allclose(image, luma(palette[indices]), atol=0.51 / 255)

    def test_palette_with_a_transparency_for_each_entry(self, tmp_path):
        picture = Image.fromarray(GREY).convert("P")
        path = save(tmp_path / "a.png", picture, transparency=bytes(range(256)))
        np.testing.assert_allclose(load_image(path), GREY / 255, atol=0.51 / 255)

    def test_alpha_is_ignored(self, tmp_path):
        alpha = np.random.default_rng(6).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
        rgba = load_image(save(tmp_path / "a.png", np.dstack([COLOUR, alpha])))
        np.testing.assert_allclose(rgba, luma(COLOUR), atol=0.51 / 255)
        grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
        np.testing.assert_array_equal(load_image(save(tmp_path / "b.png", grey_alpha)), GREY / 255)

    def test_cmyk_jpeg(self, tmp_path):
        # Two flat halves: JPEG keeps them, and the conversion is known in closed form.
        inks = np.zeros((32, 64, 4), dtype=np.uint8)
        inks[:, :32] = (200, 10, 60, 30)
        inks[:, 32:] = (0, 120, 0, 100)
        picture = Image.frombytes("CMYK", (64, 32), inks.tobytes())
        path = save(tmp_path / "a.jpg", picture, quality=100)
        with Image.open(path) as picture:
            assert picture.mode == "CMYK"
        image = load_image(path)
        for columns, (*cmy, black) in (
            (slice(0, 24), (200, 10, 60, 30)),
            (slice(40, 64), (0, 120, 0, 100)),
        ):
            colour = (255 - np.array(cmy)) * (255 - black) / 255
            np.testing.assert_allclose(image[:, columns], luma(colour), atol=4 / 255)

    @pytest.mark.parametrize(
        ("orientation", "upright"),
        [
            (1, lambda a: a),
            (2, np.fliplr),
            (3, lambda a: np.rot90(a, 2)),
            (6, lambda a: np.rot90(a, -1)),  # "rotate 90 clockwise to view"
            (8, lambda a: np.rot90(a, 1)),
        ],
    )
    @pytest.mark.parametrize("name", ["a.png", "a.jpg"])
    def test_exif_orientation_is_applied(self, tmp_path, name, orientation, upright):
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        plain = load_image(save(tmp_path / f"plain-{name}", GREY))
        turned = load_image(save(tmp_path / name, GREY, exif=exif))
        np.testing.assert_array_equal(turned, upright(plain))

    @pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
    def test_the_first_frame_of_an_animation_is_used(self, tmp_path, name):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
        path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        with Image.open(path) as picture:
            assert picture.n_frames == 2
        np.testing.assert_array_equal(load_image(path), GREY / 255)

    def test_the_content_decides_not_the_ending(self, tmp_path):
        path = save(tmp_path / "a.jpg", GREY, format="png")
        np.testing.assert_array_equal(load_image(path), GREY / 255)


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64, np.bool_])
    def test_arrays_are_used_as_they_are(self, tmp_path, dtype):
        array = (GREY > 99).astype(dtype) if dtype is np.bool_ else GREY.astype(dtype)
        path = tmp_path / "a.npy"
        np.save(path, array)
        for source in (array, path, str(path)):
            image = load_image(source)
            assert image.dtype == np.float64
            np.testing.assert_array_equal(image, array)

    def test_nested_lists_are_arrays(self):
        np.testing.assert_array_equal(load_image([[1, 2], [3, 5]]), [[1.0, 2.0], [3.0, 5.0]])

    def test_fortran_order(self, tmp_path):
        np.save(tmp_path / "a.npy", np.asfortranarray(GREY))
        np.testing.assert_array_equal(load_image(tmp_path / "a.npy"), GREY)

    @pytest.mark.parametrize("normalize", ["none", "center", "standardize"])
    def test_the_users_array_stays_as_it_was(self, normalize):
        mine = GREY.astype(np.float64)
        result = load_image(mine, pixel_scale=2, normalize=normalize)
        result[:] = 0
        np.testing.assert_array_equal(mine, GREY)

    def test_even_without_scaling_the_result_is_a_copy(self):
        mine = GREY.astype(np.float64)
        assert not np.shares_memory(load_image(mine), mine)


class TestBuiltIn:
    def test_hopper_is_the_photograph_that_matplotlib_ships(self):
        path = resources.files("matplotlib") / "mpl-data" / "sample_data" / "grace_hopper.jpg"
        with path.open("rb") as stream, Image.open(stream) as picture:
            colour = np.asarray(picture.convert("RGB"))
        image = load_image("hopper")
        assert image.shape == (600, 512)
        np.testing.assert_allclose(image, luma(colour), atol=0.51 / 255)

    @pytest.mark.parametrize("name", ["noise", "pink"])
    def test_seeds_repeat_and_differ(self, name):
        first = load_image(name, seed=3)
        np.testing.assert_array_equal(first, load_image(name, seed=3))
        assert np.abs(first - load_image(name, seed=4)).max() > 1
        assert first.shape == (512, 512)

    def test_seeding_leaves_the_global_generators_alone(self):
        np.random.seed(7)  # noqa: NPY002 - the global state is what is tested
        expected = np.random.rand(3)  # noqa: NPY002
        np.random.seed(7)  # noqa: NPY002
        load_image("noise", seed=1)
        np.testing.assert_array_equal(np.random.rand(3), expected)  # noqa: NPY002

    def test_noise_is_white(self):
        power = ring_power(load_image("noise"))
        # Means of at least some hundred exponentials each: 5 deviations are below 25%.
        np.testing.assert_allclose(power / power.mean(), 1, atol=0.25)

    def test_pink_amplitude_falls_as_one_over_frequency(self):
        image = load_image("pink")
        rings = np.array([ring for ring, _ in RINGS], dtype=float)
        slope = np.polyfit(np.log(rings), np.log(ring_power(image)), 1)[0]
        assert slope == pytest.approx(-2, abs=0.1)
        assert image.mean() == pytest.approx(0, abs=1e-12)
        assert image.std() == pytest.approx(1, rel=1e-12)


RINGS = [(low, low * 1.25) for low in (12, 18, 27, 40, 60, 90, 135, 200)]


def ring_power(image):
    """Mean spectral power in rings of frequency, by the complex FFT."""
    power = np.abs(np.fft.fft2(image)) ** 2
    row, column = (np.fft.fftfreq(side, 1 / side) for side in image.shape)
    radius = np.hypot(row[:, None], column[None, :])
    return np.array([power[(radius >= lo) & (radius < hi)].mean() for lo, hi in RINGS])


class TestScaling:
    def test_pixel_scale_multiplies(self, tmp_path):
        path = save(tmp_path / "a.png", GREY)
        np.testing.assert_allclose(load_image(path, pixel_scale=255), GREY, rtol=1e-15)
        np.testing.assert_array_equal(load_image(GREY, pixel_scale=-2), GREY * -2.0)

    def test_center_and_standardize(self):
        plain = load_image(GREY, pixel_scale=3)
        centred = load_image(GREY, pixel_scale=3, normalize="center")
        np.testing.assert_allclose(centred, plain - np.mean(plain), atol=1e-12)
        standard = load_image(GREY, pixel_scale=3, normalize="standardize")
        assert standard.mean() == pytest.approx(0, abs=1e-13)
        assert np.mean(standard**2) == pytest.approx(1, rel=1e-13)
        assert np.corrcoef(standard.ravel(), plain.ravel())[0, 1] == pytest.approx(1)

    def test_unknown_normalization(self):
        with pytest.raises(UsageError, match="'sphere' is unknown") as caught:
            load_image(GREY, normalize="sphere")
        assert all(name in caught.value.advice for name in ("none", "center", "standardize"))
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("scale", [0.0, math.nan, math.inf])
    def test_pixel_scale_without_meaning(self, scale):
        with pytest.raises(UsageError, match="pixel scale"):
            load_image(GREY, pixel_scale=scale)


class TestRefusedFiles:
    def test_missing(self, tmp_path):
        path = tmp_path / "nowhere.png"
        names_and_advises(refusal(path), path, "hopper", "noise", "pink")

    def test_folder(self, tmp_path):
        names_and_advises(refusal(tmp_path), tmp_path, "folder")

    def test_name_too_long(self, tmp_path):
        path = tmp_path / ("a" * 5000 + ".png")
        refusal(path)

    @pytest.mark.parametrize("content", ["theta = 1\n", "", "\x00" * 200])
    def test_text_called_png(self, tmp_path, content):
        path = tmp_path / "notes.png"
        path.write_text(content)
        names_and_advises(refusal(path), path, "not an image", "PNG")

    @pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
    @pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
    def test_truncated(self, tmp_path, ending, kept):
        path = save(tmp_path / f"half.{ending}", GREY)
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data))])
        error = refusal(path)
        assert str(path) in error.problem

    def test_damage_comes_with_advice(self, tmp_path):
        path = save(tmp_path / "half.png", GREY)
        path.write_bytes(path.read_bytes()[:-100])
        names_and_advises(refusal(path), path, "damaged")

    def test_not_permitted(self, tmp_path, monkeypatch):
        # By a patch, because whoever runs the tests may be allowed to read everything.
        path = save(tmp_path / "a.png", GREY)

        def deny(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Image, "open", deny)
        names_and_advises(refusal(path), path, "may not be read", "permissions")
        np.save(tmp_path / "a.npy", GREY)
        monkeypatch.setattr(np, "load", deny)
        names_and_advises(refusal(tmp_path / "a.npy"), tmp_path / "a.npy", "permissions")

    def test_one_pixel(self, tmp_path):
        path = save(tmp_path / "dot.png", GREY[:1, :1])
        names_and_advises(refusal(path), path)

    def test_constant(self, tmp_path):
        path = save(tmp_path / "flat.png", np.full((ROWS, COLUMNS), 7, dtype=np.uint8))
        names_and_advises(refusal(path), path, "constant")
        assert "constant" in refusal(np.ones((ROWS, COLUMNS))).problem


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG written by hand: 8-bit grey, whatever size the header claims."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


class TestBombs:
    @pytest.fixture(autouse=True)
    def _pixels_are_never_unpacked(self, monkeypatch):
        def unpack(*args, **kwargs):
            raise AssertionError("the pixels were unpacked")

        monkeypatch.setattr(ImageFile.ImageFile, "load", unpack)

    def test_the_hand_written_png_is_a_png(self, tmp_path, monkeypatch):
        monkeypatch.undo()
        path = tmp_path / "small.png"
        path.write_bytes(png(3, 2, b"\x00\x01\x02\x03\x00\x04\x05\x06"))
        expected = np.array([[1, 2, 3], [4, 5, 6]]) / 255
        np.testing.assert_array_equal(load_image(path), expected)

    @pytest.mark.parametrize("side", [10_001, 13_000, 30_000, 2**31 - 1])
    def test_a_header_that_claims_too_much(self, tmp_path, side):
        path = tmp_path / "bomb.png"
        path.write_bytes(png(side, side))
        names_and_advises(refusal(path), path, "million pixels", "bomb")

    def test_pillows_own_limit_is_not_relied_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        path = tmp_path / "bomb.png"
        path.write_bytes(png(30_000, 30_000))
        names_and_advises(refusal(path), path, "million pixels", "bomb")

    def test_a_warning_filter_does_not_let_it_through(self, tmp_path, recwarn):
        path = tmp_path / "bomb.png"
        path.write_bytes(png(10_001, 10_001))
        refusal(path)
        assert not recwarn.list


class TestRefusedArrays:
    def write(self, tmp_path, array, **options) -> Path:
        path = tmp_path / "a.npy"
        np.save(path, array, **options)
        return path

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_not_finite(self, tmp_path, bad):
        array = GREY.astype(float)
        array[3, 4] = array[5, 6] = bad
        path = self.write(tmp_path, array)
        names_and_advises(refusal(path), path, "2 values", "nan_to_num")
        assert "the array" in refusal(array).problem

    def test_pickled_objects_are_not_loaded(self, tmp_path):
        path = self.write(tmp_path, np.array([[1, None], [2, 3]], dtype=object))
        names_and_advises(refusal(path), path, "pickle", "numpy.save")

    def test_pickle_is_never_executed(self, tmp_path):
        path = tmp_path / "a.npy"
        (tmp_path / "marker").mkdir()
        # Protocol 0: calls os.rmdir on the marker, if anybody unpickles it.
        path.write_bytes(f"cos\nrmdir\n(S'{tmp_path / 'marker'}'\ntR.".encode())
        refusal(path)
        assert (tmp_path / "marker").exists()

    @pytest.mark.parametrize("name", ["a.npz", "a.npy"])
    def test_archive(self, tmp_path, name):
        buffer = io.BytesIO()
        np.savez(buffer, a=GREY)
        path = tmp_path / name
        path.write_bytes(buffer.getvalue())
        names_and_advises(refusal(path), path, "npy" if name == "a.npz" else "numpy.save")

    def test_damaged_archive(self, tmp_path):
        buffer = io.BytesIO()
        np.savez(buffer, a=GREY)
        path = tmp_path / "a.npy"
        path.write_bytes(buffer.getvalue()[:-20])
        names_and_advises(refusal(path), path, "numpy.save")

    @pytest.mark.parametrize("shape", [(4, 5, 3), (20,), ()])
    def test_not_a_matrix(self, tmp_path, shape):
        array = np.random.default_rng(0).random(shape)
        path = self.write(tmp_path, array)
        names_and_advises(refusal(path), path, str(shape), "two-dimensional")

    def test_empty(self, tmp_path):
        path = self.write(tmp_path, np.zeros((0, 7)))
        names_and_advises(refusal(path), path)

    def test_complex(self, tmp_path):
        path = self.write(tmp_path, GREY * 1j)
        names_and_advises(refusal(path), path, "complex")

    def test_text(self, tmp_path):
        path = self.write(tmp_path, np.array([["a", "b"], ["c", "d"]]))
        names_and_advises(refusal(path), path, "numbers")

    def test_truncated(self, tmp_path):
        path = self.write(tmp_path, GREY)
        path.write_bytes(path.read_bytes()[:-9])
        names_and_advises(refusal(path), path, "numpy.save")

    def test_empty_file(self, tmp_path):
        path = tmp_path / "a.npy"
        path.touch()
        names_and_advises(refusal(path), path, "numpy.save")

    def test_a_header_that_claims_too_much(self, tmp_path):
        path = self.write(tmp_path, GREY)
        shape, claimed = b"(20, 30)", b"(10000000, 1000000)"
        data = path.read_bytes()
        assert shape in data
        padded = data.replace(shape + b", }" + b" " * 11, claimed + b", }")
        assert len(padded) == len(data)
        path.write_bytes(padded)
        names_and_advises(refusal(path), path)

    def test_ragged_lists(self):
        refusal([[1, 2], [3]])

    @pytest.mark.parametrize("source", [5, None, b"a.png"])
    def test_neither_path_nor_array(self, source):
        assert "two-dimensional" in refusal(source).problem


@pytest.mark.long
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "npy"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_never_escape_as_anything_else(tmp_path, ending, data):
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, GREY)
    else:
        save(path, GREY)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        # Headers are where the damage is interesting; half of the hits go there.
        last = data.draw(st.sampled_from([80, len(content) - 1]))
        content[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        image = load_image(path)
    except InputError as caught:
        refused = caught
    else:
        assert image.ndim == 2
        assert np.isfinite(image).all()
        return
    assert str(path) in refused.problem


ARRAYS = arrays(
    st.one_of(
        floating_dtypes(endianness="=", sizes=(16, 32, 64)),
        integer_dtypes(endianness="="),
        unsigned_integer_dtypes(endianness="="),
        boolean_dtypes(),
        complex_number_dtypes(endianness="="),
        unicode_string_dtypes(endianness="=", max_len=3),
    ),
    array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
)


@pytest.mark.slow
@settings(max_examples=300)
@given(ARRAYS)
@example(np.array([[1e300, 1.0]]))
@example(np.array([[1e-200, 0.0]]))
def test_any_array_is_used_as_it_is_or_refused(array):
    usable = (
        array.ndim == 2
        and array.dtype.kind in "fiub"
        and array.size > 0
        and bool(np.isfinite(array).all())
        and bool((array != array.flat[0]).any())
        and 1e-100 <= np.abs(array.astype(np.float64)).max() <= 1e100
    )
    if usable:
        assert np.array_equal(load_image(array), array.astype(np.float64))
    else:
        assert refusal(array).advice


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "P"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ending=st.sampled_from(["png", "tif", "webp", "jpg"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_picture_that_can_be_saved_becomes_its_grey(tmp_path, mode, size, ending, seed):
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    try:
        Image.fromarray(noise, "RGBA").convert("RGB").convert(mode).save(path, lossless=True)
    except (OSError, ValueError):
        # No such mode in this format.
        return
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"), dtype=np.float64) / 255
    if grey.min() == grey.max():
        assert "constant" in refusal(path).problem
    else:
        assert np.array_equal(load_image(path), grey)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-6, 1e6),
)
def test_normalizations_of_any_image(shape, seed, scale):
    image = 3 + np.random.default_rng(seed).standard_normal(shape)
    for how in ("center", "standardize", "whiten"):
        done = load_image(image, pixel_scale=scale, normalize=how)
        assert abs(done.mean()) <= 1e-12 * np.abs(done).max()
        if how != "center":
            assert done.std() == pytest.approx(1.0)
    amplitudes = np.abs(np.fft.fft2(done)).ravel()[1:]
    assert amplitudes.max() == pytest.approx(amplitudes.min())


class TestKernelFits:
    @pytest.mark.parametrize("shape", [(31, 31), (31, 400), (32, 31)])
    def test_large_enough(self, shape):
        require_larger_than_kernel(np.zeros(shape), 31)

    @pytest.mark.parametrize("shape", [(30, 400), (400, 30), (8, 9), (3, 50)])
    def test_too_small(self, shape):
        with pytest.raises(InputError) as caught:
            require_larger_than_kernel(np.zeros(shape), 31)
        assert f"{shape[0]} x {shape[1]}" in caught.value.problem
        assert "31" in caught.value.problem
        # The advice must itself be acceptable, and the best there is.
        suggested = int(caught.value.advice.rstrip(".").rsplit(" ", 1)[1])
        require_larger_than_kernel(np.zeros(shape), suggested)
        assert suggested % 2 == 1
        with pytest.raises(InputError):
            require_larger_than_kernel(np.zeros(shape), suggested + 2)

    def test_too_small_for_any_kernel(self):
        with pytest.raises(InputError) as caught:
            require_larger_than_kernel(np.zeros((2, 50)), 31)
        assert caught.value.advice == "Use a larger image."

    def test_the_experiment_refuses_it(self, tmp_path):
        path = save(tmp_path / "small.png", GREY)
        with pytest.raises(InputError, match="20 x 30 pixels"):
            Experiment(image=path).prepare()
        assert Experiment(image=path, kernel_size=19).prepare().pixels.shape == (20, 30)


def test_pixel_limit_speaks_before_pillow_does():
    # The message counts whole millions, and no size may fall between the two limits.
    assert images.MAX_PIXELS % 1_000_000 == 0
    assert 24_000_000 < images.MAX_PIXELS <= Image.MAX_IMAGE_PIXELS


def test_a_tiff_of_32_bit_integers_is_taken_as_16_bits(tmp_path):
    # How some versions of Pillow open 16 bits; what is in it decides, not how it was opened.
    values = np.random.default_rng(0).integers(0, 65536, (8, 9), dtype=np.int32)
    Image.fromarray(values).save(tmp_path / "deep.tiff")
    np.testing.assert_array_equal(load_image(tmp_path / "deep.tiff"), values / 65535)


def test_without_matplotlib_there_is_no_photograph(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="matplotlib, which is not installed"):
        load_image("hopper")


def test_a_name_too_long_for_a_file_is_refused():
    with pytest.raises(InputError, match="aaa cannot be opened: File name too long"):
        Experiment(images=["a" * 300]).prepare()
