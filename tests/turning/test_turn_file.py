"""Turned files are read with Pillow and compared with np.rot90; the bytes of JPEG files are compared themselves."""

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin
from sklearn.datasets import load_sample_images

from stnrot.data.image_file import read_upright
from stnrot.errors import InputError
from stnrot.turning.frame import frame_size
from stnrot.turning.turn_file import turned_file

PHOTO = Image.fromarray(load_sample_images().images[0][100:180, 200:313])  # 113 x 80
GREY = PHOTO.convert("L")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION = ExifTags.Base.Orientation
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" dc:title="kept"/></x:xmpmeta>'


def exif_of(orientation: int | None, order: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = order
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.DateTime] = "2026:11:29 12:00:00"
    if orientation is not None:
        exif[ORIENTATION] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = PHOTO.width
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageHeight] = PHOTO.height
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def shown(file: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(opened(file)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_quarter_turn_of_a_jpeg_changes_the_orientation_alone(tmp_path: Path, orientation: int, order: str) -> None:
    path = tmp_path / "a.jpg"
    PHOTO.save(path, exif=exif_of(orientation, order), icc_profile=ICC, comment=b"kept")
    old = path.read_bytes()
    for turns in (1, 2, 3):
        new = turned_file(path, 90.0 * turns, "crop")
        assert len(new) == len(old)
        assert sum(a != b for a, b in zip(new, old, strict=True)) == 1  # of one tag
        assert np.array_equal(shown(new), np.rot90(shown(old), turns))
        found = opened(new).getexif()
        expected = exif_of(orientation)
        assert {tag: value for tag, value in found.items() if tag < 256 or tag == ExifTags.Base.Make} == {
            ExifTags.Base.Make: expected[ExifTags.Base.Make]
        }
    assert path.read_bytes() == old


def test_a_jpeg_without_an_orientation_gets_one(tmp_path: Path) -> None:
    """Without EXIF data a segment is inserted; else the first folder moves to the end, and the others stay."""
    plain, tagged = tmp_path / "plain.jpg", tmp_path / "tagged.jpg"
    PHOTO.save(plain, quality=80, dpi=(72, 72), progressive=True)
    old, new = plain.read_bytes(), turned_file(plain, -90.0, "crop")
    at = next(k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    while new[at : at + 2] != b"\xff\xe1":
        at -= 1
    length = 2 + struct.unpack(">H", new[at + 2 : at + 4])[0]
    assert new[:at] + new[at + length :] == old
    assert np.array_equal(shown(new), np.rot90(shown(old), -1))
    assert opened(new).info["dpi"] == (72, 72)

    for order in "<>":
        PHOTO.save(tagged, exif=exif_of(None, order))
        old, new = tagged.read_bytes(), turned_file(tagged, 90.0, "crop")
        assert new[new.index(b"\xff\xdb") :] == old[old.index(b"\xff\xdb") :]  # tables and compressed data
        assert np.array_equal(shown(new), np.rot90(shown(old)))
        found = opened(new).getexif()
        assert found[ExifTags.Base.Make] == "a camera"
        assert found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    stored = tmp_path / "xmp.jpg"
    PHOTO.save(stored, xmp=XMP)
    new = turned_file(stored, 90.0, "crop")
    assert np.array_equal(shown(new), np.rot90(shown(stored.read_bytes())))
    assert b'tiff:Orientation="1"' in new


PNG_MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]
TIFF_MODES = [*PNG_MODES, "I", "F", "CMYK", "LAB"]


def of_mode(mode: str) -> Image.Image:
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray((np.asarray(GREY).astype(np.float64) * 250.7).astype(kind))
    if mode == "P":
        return PHOTO.quantize(7)
    if mode in ("LA", "RGBA"):
        image = PHOTO.convert(mode)
        image.putalpha(GREY)
        return image
    if mode == "LAB":
        return Image.merge("LAB", PHOTO.split())
    return PHOTO.convert(mode)


@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [("png", mode, {}) for mode in PNG_MODES]
    + [("tif", mode, {"compression": "tiff_lzw"}) for mode in TIFF_MODES]
    + [("tif", "RGB", {"compression": "jpeg"}), ("tif", "1", {"compression": "group4"}), ("tif", "L", {})]
    + [("webp", "RGB", {}), ("webp", "RGBA", {}), ("bmp", "RGB", {}), ("bmp", "P", {}), ("bmp", "1", {})]
    + [("ppm", "RGB", {}), ("pgm", "L", {}), ("pgm", "I;16", {}), ("png", "P", {"bits": 4, "transparency": 2})],
)
def test_a_quarter_turn_of_pixels_keeps_mode_and_bits(tmp_path: Path, suffix: str, mode: str, options: dict) -> None:
    path = tmp_path / f"a.{suffix}"
    of_mode(mode).save(path, **options)
    old = path.read_bytes()
    for turns in (1, 2, 3):
        new = turned_file(path, 90.0 * turns, "crop")
        first, second = opened(old), opened(new)
        assert first.mode == second.mode
        assert np.array_equal(np.asarray(second), np.rot90(np.asarray(first), turns))
        assert first.getpalette() == second.getpalette()
        assert np.array_equal(np.asarray(second.convert("RGBA")), np.rot90(np.asarray(first.convert("RGBA")), turns))
        if suffix == "png":
            assert new[24:26] == old[24:26]  # bits and type of colour
        if suffix == "tif":
            assert second.tag_v2.get(258) == first.tag_v2.get(258)
            if options.get("compression") != "jpeg":
                assert second.info["compression"] == first.info["compression"]


def _png(bits: int, kind: int, values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG file whose rows of packed values are given."""
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    width = values.shape[1] * 8 // bits // {0: 1, 2: 3}[kind]
    header = struct.pack(">IIBBBBB", width, len(values), bits, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_png_of_few_bits_keeps_them(tmp_path: Path, bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 5)).astype(np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(_png(bits, 0, values, (b"gAMA", struct.pack(">I", 45455))))
    new = turned_file(path, 90.0, "crop")
    assert new[24] == bits
    assert new[25] == 0
    assert np.array_equal(np.asarray(opened(new)), np.rot90(np.asarray(opened(path.read_bytes()))))
    assert opened(new).info["gamma"] == pytest.approx(0.45455)


def with_exif_folder(tiff: bytes) -> bytes:
    """Append folders of EXIF and GPS tags, and a first folder that links to them."""
    (first,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, first)
    entries = [tiff[first + 2 + 12 * k :][:12] for k in range(count)]
    tiff += b"\0" * (len(tiff) % 2)
    exif = struct.pack("<HHHIIIII", 1, 33434, 5, 1, len(tiff) + 18, 0, 1, 2)  # the exposure time 1/2
    gps = struct.pack("<HHHI4sI", 1, 1, 2, 2, b"N\0\0\0", 0)
    links = [struct.pack("<HHII", tag, 4, 1, at) for tag, at in ((34665, len(tiff)), (34853, len(tiff) + len(exif)))]
    both = sorted(entries + links, key=lambda entry: struct.unpack_from("<H", entry))
    place = len(tiff) + len(exif) + len(gps)
    return (
        tiff[:4]
        + struct.pack("<I", place)
        + tiff[8:]
        + exif
        + gps
        + struct.pack("<H", len(both))
        + b"".join(both)
        + b"\0" * 4
    )


def test_metadata_of_turned_pixels(tmp_path: Path) -> None:
    """The orientation of the file is honoured and then 1; the rest is as Pillow reads it from the original."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a temple")
    texts.add_itxt("Author", "Schröder")
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    png, tif, webp = (tmp_path / f"a.{suffix}" for suffix in ("png", "tif", "webp"))
    PHOTO.save(png, exif=exif_of(6), icc_profile=ICC, dpi=(300, 200), pnginfo=texts)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION], tags[ExifTags.Base.ImageDescription], tags[65000] = 6, "a temple", 7
    tags.tagtype[65000] = 3
    PHOTO.save(tif, tiffinfo=tags, icc_profile=ICC, dpi=(300, 200), compression="tiff_lzw")
    tif.write_bytes(with_exif_folder(tif.read_bytes()))
    PHOTO.save(webp, exif=exif_of(6), icc_profile=ICC, lossless=True)
    upright = np.rot90(np.asarray(PHOTO), -1)  # orientation 6
    for path in (png, tif, webp):
        for angle_deg, size in ((90.0, (113, 80)), (180.0, (80, 113)), (30.0, None)):
            new = opened(turned_file(path, angle_deg, "crop"))
            assert new.getexif().get(ORIENTATION, 1) == 1
            assert new.info["icc_profile"] == ICC
            if size is not None:
                assert new.size == size
                assert np.array_equal(np.asarray(new), np.rot90(upright, angle_deg / 90))
            if path != webp:
                expected = (300, 200) if angle_deg == 90 else (200, 300)  # swapped with the sides
                assert new.info["dpi"] == pytest.approx(expected, abs=0.1)
            if path != tif:
                assert new.getexif()[ExifTags.Base.Make] == "a camera"
                inner = new.getexif().get_ifd(ExifTags.IFD.Exif)
                assert (inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight]) == new.size
            else:
                assert new.tag_v2[ExifTags.Base.ImageDescription] == "a temple"
                assert new.tag_v2[65000] == 7
                assert new.getexif().get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.ExposureTime: 0.5}
                assert new.getexif().get_ifd(ExifTags.IFD.GPSInfo) == {ExifTags.GPS.GPSLatitudeRef: "N"}
            if path == png:
                assert new.text["Title"] == "a temple"
                assert new.text["Author"] == "Schröder"
                assert 'Orientation="1"' in new.text["XML:com.adobe.xmp"]


def test_other_angles_are_pillows_and_keep_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    thumbnail = io.BytesIO()
    PHOTO.resize((16, 16)).save(thumbnail, "JPEG")
    PHOTO.save(path, quality=90, exif=exif_of(3), icc_profile=ICC, dpi=(72, 72), comment=b"kept", subsampling="4:4:4")
    upright = PHOTO.rotate(180)
    new = opened(turned_file(path, 25.0, "expand"))
    expected = upright.rotate(25, Image.Resampling.BICUBIC, expand=True)
    assert max(abs(a - b) for a, b in zip(new.size, expected.size, strict=True)) <= 1
    new, expected = (np.asarray(ImageOps.fit(each, (60, 60), centering=(0.5, 0.5))) for each in (new, expected))
    assert np.abs(new.astype(float) - expected).mean() < 6
    new = opened(turned_file(path, 25.0, "crop"))
    assert new.size == frame_size(80, 113, math.radians(25), "crop")[::-1]
    assert new.getexif()[ExifTags.Base.Make] == "a camera"
    assert new.getexif()[ORIENTATION] == 1
    assert new.info["icc_profile"] == ICC
    assert (new.info["comment"], new.info["dpi"]) == (b"kept", (72, 72))
    assert new.quantization == opened(path.read_bytes()).quantization


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_a_jpeg_image_stays(tmp_path: Path, progressive: bool) -> None:
    """Phones append a video. Its bytes can look like markers."""
    path = tmp_path / "a.jpg"
    PHOTO.save(path, progressive=progressive, restart_marker_blocks=2)
    video = b"MotionPhoto_Data\xff\xd9\xff\xd8" + bytes(range(256))
    size = len(path.read_bytes())
    path.write_bytes(path.read_bytes() + video)
    for angle_deg in (90.0, 25.0):
        new = turned_file(path, angle_deg, "crop")
        assert new.endswith(b"\xff\xd9" + video)
        assert len(new) < size + len(video) + 100


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16", "F", "CMYK"])
def test_other_angles_keep_mode_and_bits(tmp_path: Path, mode: str) -> None:
    """The values are those of Pillow's bicubic rotation, in the middle."""
    path = tmp_path / "a.tif"
    image = of_mode(mode)
    image.save(path)
    new = opened(turned_file(path, -33.0, "same"))
    assert (new.mode, new.size) == (image.mode, image.size)
    if mode == "1":
        return
    bands = zip(image.split() or [image], new.split() or [new], strict=True)
    for old, found in bands if mode not in ("LA", "RGBA") else []:
        wide = Image.fromarray(np.asarray(old).astype(np.float32)).rotate(-33, Image.Resampling.BICUBIC)
        difference = np.asarray(found).astype(float) - np.asarray(wide)
        assert np.abs(difference[25:55, 40:70]).mean() <= 0.02 * np.ptp(np.asarray(old).astype(float))


@pytest.mark.parametrize("size", [(80, 113), (113, 80), (60, 60), (300, 20)])
@pytest.mark.parametrize("degrees", [0.5, 11, 30, 45, 77, 100, 135, 179, -62])
def test_the_crop_is_the_largest_rectangle_inside(size: tuple[int, int], degrees: float) -> None:
    """All its corners lie inside, and of all rectangles of another shape that do none is larger."""
    height, width = frame_size(*size, math.radians(degrees), "crop")
    c, s = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    assert c * width + s * height <= size[1] + 1e-3
    assert s * width + c * height <= size[0] + 1e-3
    shapes = np.exp(np.linspace(-6, 6, 2001))  # width over height
    heights = np.minimum(size[1] / (c * shapes + s), size[0] / (s * shapes + c))
    assert width * height > (heights**2 * shapes).max() - width - height - 1  # rounded down to whole pixels


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:(Corrupt EXIF data|Truncated File Read)")
def test_broken_exif_data_is_refused_in_plain_words(tmp_path: Path) -> None:
    """It says nothing of buffers, as the module struct does."""
    image, path = Image.new("RGB", (16, 16)), tmp_path / "a.jpg"
    whole = exif_of(6).tobytes()
    for exif in (whole[:6], whole[:12], whole[:20], whole[:40]):
        image.save(path, exif=exif)
        with pytest.raises(InputError, match="its EXIF data is broken: expected whole data; remove it, such as"):
            turned_file(path, 7.0, "crop")
    image.save(path, exif=whole.replace(b"\x0f\x01\x02\0", b"\0\x01\x02\0", 1))  # a width that is a text
    with pytest.raises(InputError, match="its data or its EXIF data is broken; expected a whole image file"):
        read_upright(path, 3, 256, (16, 16))


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused_and_stays(tmp_path: Path) -> None:
    pages, gif, moving, deep = (tmp_path / name for name in ("pages.tif", "a.gif", "moving.png", "deep.png"))
    PHOTO.save(pages, save_all=True, append_images=[PHOTO, PHOTO])
    PHOTO.save(gif)
    PHOTO.save(moving, save_all=True, append_images=[PHOTO.rotate(9)])
    deep.write_bytes(_png(16, 2, np.random.default_rng(0).integers(0, 256, (6, 5 * 6)).astype(np.uint8)))
    signed = tmp_path / "signed.tif"
    of_mode("I").save(signed)
    unsigned = signed.read_bytes().replace(
        struct.pack("<HHIHH", 339, 3, 1, 2, 0), struct.pack("<HHIHH", 339, 3, 1, 1, 0)
    )
    signed.write_bytes(unsigned)  # Pillow reads its values as signed ones
    scaled = tmp_path / "scaled.pgm"
    scaled.write_bytes(b"P5 4 4 4095\n" + bytes(range(16)) * 2)
    broken, cut, none = tmp_path / "broken.jpg", tmp_path / "cut.jpg", tmp_path / "none.jpg"
    empty, short = tmp_path / "empty.png", tmp_path / "short.png"
    broken.write_bytes(b"nothing")
    empty.write_bytes(b"")
    short.write_bytes(b"\x89")
    PHOTO.save(cut, exif=b"Exif\0\0II*\0\xff\xff\0\0")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, message in (
        (pages, "it holds several images: expected one"),
        (moving, "it holds several images: expected one"),
        (gif, "its format is GIF: expected JPEG, PNG, TIFF, WebP, BMP or PPM"),
        (deep, "would read 8 of its bits"),
        (scaled, "would read 8 of its bits"),
        (signed, "does not write its mode I with its bits"),
        (broken, "cannot read the image"),
        (empty, "cannot read the image .*: it is empty; expected"),
        (short, "it has none of the image formats"),
        (cut, "its EXIF data is broken: expected whole data; remove it"),
        (none, "there is no image"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            turned_file(path, 90.0, "crop")
        assert str(path) in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
