"""VOC's xml files: its way of counting pixels, classes, splits, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sasa.data.detection import AnnotationError, create_detection_dataset

Xml = Callable[..., str]


def test_what_is_read(voc: Path) -> None:
    dataset = create_detection_dataset(voc)
    assert (dataset.classes, dataset.category_ids) == (["blue", "red", "white"], [1, 2, 3])
    assert dataset.image_ids == [1, 2]
    image, target = dataset[0]
    assert (image.mode, image.size) == ("RGB", (30, 20))
    # From 1 to 30 and 1 to 20, both ends inside: the whole image; from 5 to 5: one pixel.
    assert target["boxes"].tolist() == [[0, 0, 30, 20], [4, 5, 5, 6]]
    assert target["labels"].tolist() == [1, 2]
    assert target["iscrowd"].tolist() == [0, 1], "a difficult object is to be ignored"
    assert target["area"].tolist() == [600, 1]
    assert dataset.target(1)["boxes"].shape == (0, 4)
    assert dataset.name(0) == str(voc / "VOC2007" / "JPEGImages" / "b.png")


def test_ground_truth(voc: Path) -> None:
    truth = create_detection_dataset(voc, "val").ground_truth()
    assert truth == {
        "images": [{"id": 1, "file_name": "c.png", "width": 12, "height": 12}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.5, 2, 2.5, 6], "area": 15, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}, {"id": 3, "name": "white"}],
    }


def test_splits(voc: Path) -> None:
    assert [
        len(create_detection_dataset(voc, split)) for split in ("train", "val", "validation", "test")
    ] == [
        2,
        1,
        1,
        1,
    ]
    every = create_detection_dataset(voc, None)
    assert [every.source.file_name(index) for index in range(3)] == ["a.png", "b.png", "c.png"]
    with pytest.raises(ValueError, match=r"split: expected one of 'train', 'val' for .*, got 'trainval'"):
        create_detection_dataset(voc, "trainval")
    sets = voc / "VOC2007" / "ImageSets" / "Main"
    (sets / "red_train.txt").write_text("b  1\na -1\n")
    assert create_detection_dataset(voc, "red_train").image_ids == [1, 2]
    shutil.rmtree(sets)
    with pytest.raises(ValueError, match=r"split: expected None for .*, which has no splits, got"):
        create_detection_dataset(voc)


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_archive_equals_folder(voc: Path, kind: str) -> None:
    archive = create_detection_dataset(shutil.make_archive(str(voc) + "-packed", kind, voc))
    folder = create_detection_dataset(voc)
    assert archive.ground_truth() == folder.ground_truth()
    assert [image.tobytes() for image, _ in archive] == [image.tobytes() for image, _ in folder]


def test_given_classes(voc: Path) -> None:
    dataset = create_detection_dataset(voc, classes=["white", "red"])
    assert dataset.target(0)["labels"].tolist() == [1, 0]
    with pytest.raises(
        AnnotationError,
        match=r"Annotations/c\.xml: object 1 \('blue'\): expected one of the classes 'red', 'white'",
    ):
        create_detection_dataset(voc, "val", classes=["white", "red"])


FAULTS: dict[str, tuple[tuple, str]] = {
    "turned round": (("red", 6, 1, 5, 20, 0), r"b\.xml: object 1 \('red'\): box .* has no area"),
    "out of range": (("red", 1, 1, 32, 20, 0), r"extends beyond its 30×20 image"),
    "text": (("red", "left", 1, 30, 20, 0), r"b\.xml: object 1: bndbox/xmin: expected a number, got 'left'"),
    "no name": ((" ", 1, 1, 30, 20, 0), r"b\.xml: object 1: name: expected"),
    "difficult": (("red", 1, 1, 30, 20, 2), r"object 1: difficult: expected 0 or 1, got '2'"),
    "not finite": (("red", 1, 1, "inf", 20, 0), "not finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(voc: Path, write_xml: Xml, fault: str) -> None:
    entry, message = FAULTS[fault]
    (voc / "VOC2007" / "Annotations" / "b.xml").write_text(write_xml(30, 20, [entry]))
    with pytest.raises(AnnotationError, match=rf"(?s)train\.txt: 1 fault\n.*{message}"):
        create_detection_dataset(voc)


def test_pixels_counted_from_zero_pass(voc: Path, write_xml: Xml) -> None:
    (voc / "VOC2007" / "Annotations" / "b.xml").write_text(write_xml(30, 20, [("red", 0, 0, 29, 19, 0)]))
    assert create_detection_dataset(voc).target(0)["boxes"].tolist() == [[0, 0, 29, 19]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "broken xml: no element found"),
        ("", "broken xml: no element found"),
        ("<html/>", "expected one <annotation> with VOC's <object> elements, got something else"),
        ("<annotation><size/></annotation>", "size/width: expected a number, got None"),
        (
            "<annotation><size><width>0</width><height>4</height></size></annotation>",
            "size: expected positive integers, got 0×4",
        ),
        (
            "<annotation><size><width>1e300</width><height>4</height></size></annotation>",
            r"size: expected positive integers, got 1e\+300×4",
        ),
    ],
)
def test_broken_xml(voc: Path, text: str, message: str) -> None:
    (voc / "VOC2007" / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(AnnotationError, match=rf"VOC2007/Annotations/a\.xml: .*{message}"):
        create_detection_dataset(voc)


def test_missing_files_and_doubles_are_told_at_once(voc: Path) -> None:
    base = voc / "VOC2007"
    (base / "JPEGImages" / "a.png").unlink()
    (base / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nb\nz\n")
    with pytest.raises(AnnotationError) as caught:
        create_detection_dataset(voc)
    message = str(caught.value)
    assert "3 faults" in message
    assert "image 'b' occurs more than once" in message
    assert "a.xml: no image file" in message
    assert "image 'z': no file" in message


def test_an_image_set_that_is_no_text(voc: Path) -> None:
    (voc / "VOC2007" / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match=r"train\.txt: not a text file"):
        create_detection_dataset(voc)


def test_no_objects_at_all(voc: Path, write_xml: Xml) -> None:
    for file in (voc / "VOC2007" / "Annotations").iterdir():
        file.write_text(write_xml(10, 10, []))
    with pytest.raises(AnnotationError, match="classes: expected objects in the xml files, got none"):
        create_detection_dataset(voc)


def test_skip(voc: Path, write_xml: Xml) -> None:
    entries = [("red", 6, 1, 5, 20, 0), ("red", 1, 1, 5, 20, 0)]
    (voc / "VOC2007" / "Annotations" / "b.xml").write_text(write_xml(30, 20, entries))
    dataset = create_detection_dataset(voc, on_invalid="skip")
    assert len(dataset.skipped) == 1
    assert dataset.target(0)["boxes"].tolist() == [[0, 0, 5, 20]]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height><depth>0</depth></size>"])
@pytest.mark.parametrize("kind", ["folder", "gztar"])
def test_a_size_that_is_not_stated(voc: Path, write_xml: Xml, size: str, kind: str) -> None:
    file = voc / "VOC2007" / "Annotations" / "b.xml"
    content = write_xml(30, 20, [("red", 1, 1, 30, 20, 0)])
    start, end = content.index("<size>"), content.index("</size>") + len("</size>")
    file.write_text((content[:start] + size + content[end:]).replace("<difficult>0</difficult>", ""))
    source = voc if kind == "folder" else shutil.make_archive(str(voc) + "-packed", kind, voc)
    dataset = create_detection_dataset(source)
    assert dataset.size(0) == (30, 20)
    assert dataset[0][1]["boxes"].tolist() == [[0, 0, 30, 20]]
    assert dataset[0][1]["iscrowd"].tolist() == [0]


def test_subfolders(voc: Path, write_xml: Xml, draw_image: Callable[..., None]) -> None:
    """Equal names in mirrored folders, names with spaces, and images that are not in subfolders."""
    base = voc / "VOC2007"
    for place, name in (("x", "red"), ("y", "blue")):
        (base / "Annotations" / place).mkdir()
        (base / "Annotations" / place / "my photo.xml").write_text(write_xml(8, 8, [(name, 1, 1, 4, 4, 0)]))
        draw_image(base / "JPEGImages" / place / "my photo.png", 8, 8)
    (base / "Annotations" / "y" / "only.xml").write_text(write_xml(9, 9, [("red", 1, 1, 4, 4, 0)]))
    draw_image(base / "JPEGImages" / "only.png", 9, 9)
    (base / "ImageSets" / "Main" / "train.txt").write_text("x/my photo\ny/my photo.jpg\nonly\nb  1\n")
    dataset = create_detection_dataset(voc)
    assert [dataset.source.file_name(i) for i in range(4)] == [
        "x/my photo.png",
        "y/my photo.png",
        "only.png",
        "b.png",
    ]
    assert [dataset.classes[dataset.objects(i).labels[0]] for i in range(3)] == ["red", "blue", "red"]
    assert len(create_detection_dataset(voc, None)) == 6


def test_several_images_of_one_name(voc: Path, write_xml: Xml, draw_image: Callable[..., None]) -> None:
    base = voc / "VOC2007"
    draw_image(base / "JPEGImages" / "b.bmp", 30, 20)
    with pytest.raises(
        AnnotationError, match=r"b\.xml: expected one image file .*JPEGImages/b\.\*, got .*bmp"
    ):
        create_detection_dataset(voc)
    file = base / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("elsewhere.jpg", r"C:\photos\b.bmp"))
    assert create_detection_dataset(voc).name(0).endswith("b.bmp")


def test_the_file_name_where_no_image_has_the_name_of_the_xml_file(voc: Path) -> None:
    base = voc / "VOC2007"
    (base / "JPEGImages" / "b.png").rename(base / "JPEGImages" / "elsewhere.png")
    assert create_detection_dataset(voc).name(0).endswith("elsewhere.png")


@pytest.mark.parametrize("layout", ["images and annotations", "beside", "beside, by split"])
def test_other_folders(voc: Path, layout: str) -> None:
    base = voc / "VOC2007"
    before = create_detection_dataset(base, None).ground_truth()
    shutil.rmtree(base / "ImageSets")
    split, place = None, base
    if layout == "images and annotations":
        (base / "JPEGImages").rename(base / "images")
        (base / "Annotations").rename(base / "annotations")
    else:
        if layout == "beside, by split":
            split, place = "validation", base / "valid"
            place.mkdir()
        for path in [*(base / "JPEGImages").iterdir(), *(base / "Annotations").iterdir()]:
            path.rename(place / path.name)
    assert create_detection_dataset(voc, split).ground_truth() == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "gbk", "shift_jis"])
def test_encodings(voc: Path, write_xml: Xml, encoding: str) -> None:
    name = {"gbk": "红", "shift_jis": "赤"}.get(encoding, "rouge é")
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n'
    text = declared + write_xml(30, 20, [(name, 1, 1, 30, 20, 0)])
    (voc / "VOC2007" / "Annotations" / "b.xml").write_bytes(text.encode(encoding))
    assert name in create_detection_dataset(voc).classes


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("", "not well-formed .*must declare it"),
        ('<?xml version="1.0" encoding="nonsense"?>', "unknown encoding: nonsense"),
        ('<?xml version="1.0" encoding="ascii"?>', "'ascii' codec"),
    ],
)
def test_other_encodings_than_declared(voc: Path, write_xml: Xml, declared: str, message: str) -> None:
    text = declared + write_xml(30, 20, [("é", 1, 1, 30, 20, 0)])
    (voc / "VOC2007" / "Annotations" / "b.xml").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError, match=rf"b\.xml: broken xml: .*{message}"):
        create_detection_dataset(voc)


@pytest.mark.parametrize("around", ["<doc>{}</doc>", "{}", "<annotations>{}</annotations>"])
@pytest.mark.parametrize(
    "root", ["annotation", "Annotation", "record", 'annotation xmlns="http://x.org/voc"']
)
def test_other_roots(voc: Path, write_xml: Xml, around: str, root: str) -> None:
    text = write_xml(30, 20, [("red", 1, 1, 30, 20, 0)])
    text = text.replace("<annotation>", f"<{root}>").replace("</annotation>", f"</{root.split()[0]}>")
    (voc / "VOC2007" / "Annotations" / "b.xml").write_text(around.format(text))
    if around == "{}" or root.startswith("annotation"):
        assert len(create_detection_dataset(voc).objects(0)) == 1
    else:
        with pytest.raises(AnnotationError, match=r"b\.xml: expected one <annotation>"):
            create_detection_dataset(voc)


def test_an_image_set_of_windows(voc: Path) -> None:
    file = voc / "VOC2007" / "ImageSets" / "Main" / "train.txt"
    for encoding in ("utf-16", "utf-8-sig"):
        file.write_bytes("b\r\na\r\n".encode(encoding))
        assert len(create_detection_dataset(voc)) == 2
