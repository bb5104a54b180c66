"""PAGE XML: reading order, texts of lines and regions, polygons, images beside or above."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, LineCrop
from ocrsmith.datasets.importers.page_xml import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

COORDS = '<Coords points="10,20 110,22 111,50 60,52 9,50"/>'


def equiv(text: str, attributes: str = "") -> str:
    return f"<TextEquiv {attributes}><Unicode>{text}</Unicode></TextEquiv>"


def line(text: str, name: str = "l1", *, custom: str = "", inner: str = COORDS) -> str:
    return f'<TextLine id="{name}" custom="{custom}">{inner}{equiv(text)}</TextLine>'


def region(inner: str, name: str = "r1", attributes: str = "") -> str:
    return f'<TextRegion id="{name}" {attributes}><Coords points="0,0 200,0 200,90 0,90"/>{inner}</TextRegion>'


def page_xml(inner: str, *, version: str = "2019-07-15", image: str = "1.png", more: str = "") -> str:
    namespace = f"http://schema.primaresearch.org/PAGE/gts/pagecontent/{version}"
    return (
        f'<PcGts xmlns="{namespace}"><Metadata/><Page imageFilename="{image}" imageWidth="200" '
        f'imageHeight="100" {more}>{inner}</Page></PcGts>'
    )


def save(folder: Path, xml: str, name: str = "1.xml", image: str | None = "1.png", size=(200, 100)) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(xml, encoding="utf-8")
    if image:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "white").save(folder / image)
    return file


def read(path: Path, **options) -> list[Candidate | Excluded]:
    return list(FORMAT.open(path, ImportOptions(**options)).read())


def text_of(folder: Path, inner: str) -> str:
    (page,) = read(save(folder, page_xml(inner)))
    return page.text


@pytest.mark.parametrize("version", ["2010-03-19", "2013-07-15", "2017-07-15", "2019-07-15"])
def test_all_versions_are_recognised_and_read(tmp_path, version):
    file = save(tmp_path, page_xml(region(line("a") + line("b")), version=version))
    assert FORMAT.recognises(file, file.read_bytes()[:8192])
    assert FORMAT.recognises(tmp_path, b"")
    assert not FORMAT.recognises(file, b"<alto/>")
    (page,) = read(file)
    assert (page.text, page.id, page.image, page.image_path) == ("a\nb", "1.xml", tmp_path / "1.png", "1.png")


def test_regions_follow_the_reading_order_and_its_groups(tmp_path):
    regions = "".join(region(line(name), name) for name in ("d", "c", "extra", "b", "a"))
    order = (
        '<ReadingOrder><OrderedGroup id="g"><RegionRefIndexed index="2" regionRef="d"/>'
        '<UnorderedGroupIndexed index="1" id="u"><RegionRef regionRef="b"/><RegionRef regionRef="c"/>'
        '</UnorderedGroupIndexed><RegionRefIndexed index="0" regionRef="a"/></OrderedGroup></ReadingOrder>'
    )
    assert text_of(tmp_path, order + regions) == "a\nb\nc\nd\nextra"


def test_without_a_reading_order_that_of_the_file_is_kept(tmp_path):
    assert text_of(tmp_path, region(line("b"), "r2") + region(line("a"), "r1")) == "b\na"


def test_lines_follow_the_index_that_transkribus_notes(tmp_path):
    lines = [line(str(n), custom=f"structure {{type:x;}} readingOrder {{index:{n};}}") for n in (2, 10, 0)]
    assert text_of(tmp_path, region("".join(lines))) == "0\n2\n10"


def test_nested_regions_are_read_after_the_one_that_holds_them(tmp_path):
    assert text_of(tmp_path, region(line("outer") + region(line("inner"), "r2"))) == "outer\ninner"


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        (equiv("a", 'index="1"') + equiv("b", 'index="0"'), "b"),
        (equiv("a", 'conf="0.3"') + equiv("b", 'conf="0.9"'), "b"),
        (equiv("a", 'index="0" conf="0.1"') + equiv("b", 'index="1" conf="0.9"'), "a"),
        (equiv("a") + equiv("b"), "a"),
        (equiv(" spaced "), "spaced"),
        ("<TextEquiv><PlainText>plain</PlainText></TextEquiv>", "plain"),
        (f"<Word>{equiv('two')}</Word><Word>{equiv('words')}</Word>", "two words"),
        ("<TextEquiv conf='x' index='?'><Unicode>odd</Unicode></TextEquiv>", "odd"),
        (equiv("x &lt;b&gt; سلام"), "x <b> سلام"),
    ],
)
def test_the_text_of_a_line_is_its_first_or_surest_reading(tmp_path, texts, chosen):
    assert text_of(tmp_path, region(f"<TextLine>{COORDS}{texts}</TextLine>")) == chosen


def test_a_region_gives_its_own_text_where_its_lines_have_none(tmp_path):
    own = region(f"<TextLine>{COORDS}</TextLine>" + equiv("whole\ntext"))
    assert text_of(tmp_path, own) == "whole\ntext"
    assert text_of(tmp_path, region(line("a") + equiv("not this"))) == "a"
    (block,) = read(tmp_path / "1.xml", unit="line")
    assert block.text == "a"


def test_of_a_region_with_text_and_no_lines_the_region_is_cut(tmp_path):
    (block,) = read(save(tmp_path, page_xml(region(equiv("whole\ntext")))), unit="line")
    assert block.text == "whole\ntext"
    assert block.image.polygon == ((0, 0), (200, 0), (200, 90), (0, 90))


def test_a_line_has_its_polygon_baseline_and_language(tmp_path):
    inner = f'{COORDS}<Baseline points="10,45 110,47"/>'
    xml = page_xml(region(line("a", inner=inner), attributes='primaryLanguage="German" type="heading"'))
    (found,) = read(save(tmp_path, xml), unit="line")
    polygon = ((10, 20), (110, 22), (111, 50), (60, 52), (9, 50))
    assert found.image == LineCrop(tmp_path / "1.png", polygon)
    assert (found.id, found.group) == ("1.xml#l1", "1.png")
    assert found.meta == {
        "baseline": [[10, 45], [110, 47]],
        "language": "German",
        "region_type": "heading",
        "polygon": [list(point) for point in polygon],
    }


def test_points_of_the_oldest_versions_are_elements(tmp_path):
    inner = '<Coords><Point x="1" y="2"/><Point x="9" y="2"/><Point x="9" y="8"/></Coords>'
    (found,) = read(save(tmp_path, page_xml(region(line("a", inner=inner)))), unit="line")
    assert found.image.polygon == ((1, 2), (9, 2), (9, 8))


def test_coordinates_of_a_smaller_or_larger_image_are_brought_to_its_pixels(tmp_path):
    inner = '<Coords points="10,20 110,20 60,50"/>'
    (found,) = read(save(tmp_path, page_xml(region(line("a", inner=inner))), size=(100, 50)), unit="line")
    assert found.image.polygon == ((5, 10), (55, 10), (30, 25))
    (left_out,) = read(save(tmp_path, page_xml(region(line("a"))), size=(100, 100)), unit="line")
    assert "another picture" in left_out.detail


@pytest.mark.parametrize(
    ("file", "written", "image"),
    [
        ("page/1.xml", "1.png", "1.png"),  # Transkribus
        ("OCR-D-GT/1.xml", "IMG/1.tif", "IMG/1.tif"),  # OCR-D: relative to the workspace
        ("1.page.xml", "", "1.png"),
        ("page/1.xml", "", "1.jpg"),
    ],
)
def test_images_beside_or_one_folder_up_are_found(tmp_path, file, written, image):
    save(tmp_path, page_xml(region(line("a")), image=written), name=file, image=image)
    (page,) = read(tmp_path)
    assert (page.image, page.image_path, page.id) == (tmp_path / image, image, file)


def test_images_above_the_source_are_not_looked_for(tmp_path):
    save(tmp_path, page_xml(region(line("a"))), name="page/1.xml")
    (page,) = read(tmp_path / "page" / "1.xml")
    assert page.image == tmp_path / "page" / "1.png"
    (page,) = read(tmp_path / "page" / "1.xml", allow_outside=True)
    assert page.image == tmp_path / "1.png"


def test_several_pages_of_a_file_are_one_document(tmp_path):
    save(tmp_path, "", image="2.png")
    pages = "".join(
        f'<Page imageFilename="{n}.png" imageWidth="200" imageHeight="100">{region(line(str(n)))}</Page>'
        for n in (1, 2)
    )
    first, second = read(save(tmp_path, f"<PcGts>{pages}</PcGts>"))
    assert [(page.id, page.group, page.text) for page in (first, second)] == [
        ("1.xml#page_1", "1.xml", "1"),
        ("1.xml#page_2", "1.xml", "2"),
    ]


def test_a_damaged_file_costs_itself_only(tmp_path):
    save(tmp_path, page_xml(region(line("a"))))
    save(tmp_path, page_xml(region(line("a")))[:-40], name="2.xml")
    save(tmp_path, "<PcGts/>", name="3.xml")
    good, *bad = read(tmp_path)
    assert good.text == "a"
    assert [(Path(item.source).name, item.reason) for item in bad] == [
        ("2.xml", "malformed"),
        ("3.xml", "malformed"),
    ]


def test_a_folder_without_xml_is_refused(tmp_path):
    with pytest.raises(DataError):
        read(tmp_path)


@given(st.text("0123456789.,- einf", max_size=40), st.text("0123456789-.einf", max_size=9))
def test_any_numbers_are_read_or_left_out_clearly(tmp_path_factory, points, number):
    inner = f'<Coords points="{points}"/><Baseline points="{points}"/>'
    reference = f'<RegionRefIndexed index="{number}" regionRef="r1"/>'
    order = f"<ReadingOrder><OrderedGroup>{reference}</OrderedGroup></ReadingOrder>"
    xml = page_xml(order + region(line("a", inner=inner)))
    (found,) = read(save(tmp_path_factory.getbasetemp(), xml), unit="line")
    assert found.reason == "malformed" if isinstance(found, Excluded) else found.text == "a"
