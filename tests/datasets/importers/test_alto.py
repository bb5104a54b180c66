"""ALTO XML: texts as printed, order, units, images; against a real collection with its own labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.datasets.importers.alto import FORMAT
from ocrsmith.datasets.importers.base import Candidate, ImportOptions, LineCrop
from ocrsmith.datasets.importers.lines import unescape
from ocrsmith.errors import DataError
from ocrsmith.images import cut, open_image
from ocrsmith.records import Excluded

LINE = '<TextLine ID="l1" HPOS="10" VPOS="20" WIDTH="100" HEIGHT="30">{}</TextLine>'


def alto(
    lines: str,
    *,
    page: str = 'WIDTH="200" HEIGHT="100"',
    unit: str = "pixel",
    image: str = "1.png",
    before: str = "",
    version: str = "v4#",
) -> str:
    return (
        f'<alto xmlns="http://www.loc.gov/standards/alto/ns-{version}"><Description>'
        f"<MeasurementUnit>{unit}</MeasurementUnit><sourceImageInformation><fileName>{image}</fileName>"
        f"</sourceImageInformation></Description>{before}<Layout><Page {page}><PrintSpace>"
        f'<TextBlock ID="b1" LANG="fr">{lines}</TextBlock></PrintSpace></Page></Layout></alto>'
    )


def save(folder: Path, xml: str, name: str = "1.xml", image: str | None = "1.png", size=(200, 100)) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(xml, encoding="utf-8")
    if image:
        Image.new("RGB", size, "white").save(folder / image)
    return file


def read(path: Path, **options) -> list[Candidate | Excluded]:
    return list(FORMAT.open(path, ImportOptions(**options)).read())


def text_of(folder: Path, line: str) -> str:
    (page,) = read(save(folder, alto(LINE.format(line))))
    return page.text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('<String CONTENT="a whole line"/>', "a whole line"),
        ('<String CONTENT="two"/><SP WIDTH="3"/><String CONTENT="words"/>', "two words"),
        ('<String CONTENT="no"/><String CONTENT="spaces"/>', "no spaces"),
        ('<String CONTENT="l\'"/><String CONTENT="or"/><SP/><String CONTENT="noir"/>', "l'or noir"),
        (
            '<String CONTENT="néces" SUBS_TYPE="HypPart1" SUBS_CONTENT="nécessaire"/><HYP CONTENT="-"/>',
            "néces-",
        ),
        ('<String CONTENT="saire" SUBS_TYPE="HypPart2" SUBS_CONTENT="nécessaire"/>', "saire"),
        ('<String CONTENT="soft"/><HYP CONTENT="\u00ad"/>', "soft-"),
        ('<String CONTENT="bare"/><HYP/>', "bare-"),
        ('<SP/><String CONTENT="edge"/><SP/>', "edge"),
        ('<String CONTENT="M." SUBS_TYPE="Abbreviation" SUBS_CONTENT="Monsieur"/>', "M."),
        ('<String CONTENT="&lt;b&gt; &amp; 字"/>', "<b> & 字"),
    ],
)
def test_a_line_is_read_as_printed(tmp_path, line, text):
    assert text_of(tmp_path, line) == text


@pytest.mark.parametrize("version", ["v2#", "v3#", "v4#", "whatever"])
def test_all_versions_are_recognised_and_read(tmp_path, version):
    file = save(tmp_path, alto(LINE.format('<String CONTENT="a"/>'), version=version))
    assert FORMAT.recognises(file, file.read_bytes()[:8192])
    assert FORMAT.recognises(tmp_path, b"")
    (page,) = read(file)
    assert (page.image, page.image_path, page.id, page.text) == (tmp_path / "1.png", "1.png", "1.xml", "a")


def test_other_xml_is_not_recognised(tmp_path):
    assert not FORMAT.recognises(tmp_path / "1.xml", b"<PcGts/>")
    assert not FORMAT.recognises(tmp_path / "1.txt", b"<alto/>")
    assert not FORMAT.recognises(tmp_path, b"")


def test_the_lines_of_a_page_are_lines_without_blank_ones_between_blocks(tmp_path):
    second = '</TextBlock><TextBlock><TextLine><String CONTENT="b"/></TextLine>'
    (page,) = read(save(tmp_path, alto(LINE.format('<String CONTENT="a"/>') + second)))
    assert page.text == "a\nb"


def test_the_reading_order_goes_before_that_of_the_file(tmp_path):
    order = (
        '<ReadingOrder><OrderedGroup><ElementRef REF="l2"/><ElementRef REF="b1"/></OrderedGroup></ReadingOrder>'
    )
    lines = "".join(f'<TextLine ID="l{n}"><String CONTENT="{n}"/></TextLine>' for n in (1, 2, 3))
    (page,) = read(save(tmp_path, alto(lines, before=order)))
    assert page.text == "2\n1\n3"


def line_of(folder: Path, line: str, **others) -> Candidate | Excluded:
    size = others.pop("size", (200, 100))
    (found,) = read(save(folder, alto(line, **others), size=size), unit="line")
    return found


def test_a_line_has_its_polygon_baseline_language_and_tags(tmp_path):
    line = (
        '<TextLine ID="l1" BASELINE="10 40 110 42" TAGREFS="t1 t2" HPOS="1" VPOS="1" WIDTH="9" HEIGHT="9">'
        '<Shape><Polygon POINTS="10,20 110,22 111,50 60,52 9,50"/></Shape><String CONTENT="a"/></TextLine>'
    )
    found = line_of(tmp_path, line, before='<Tags><OtherTag ID="t1" LABEL="Handwritten"/></Tags>')
    polygon = ((10, 20), (110, 22), (111, 50), (60, 52), (9, 50))
    assert found.image == LineCrop(tmp_path / "1.png", polygon)
    assert (found.id, found.group, found.text) == ("1.xml#l1", "1.png", "a")
    assert found.meta == {
        "baseline": [[10, 40], [110, 42]],
        "language": "fr",
        "tags": ["Handwritten"],
        "polygon": [list(point) for point in polygon],
    }


@pytest.mark.parametrize(
    ("line", "polygon"),
    [
        (LINE.format('<String CONTENT="a"/>'), ((10, 20), (110, 50))),
        (
            '<TextLine><String CONTENT="a" HPOS="5" VPOS="6" WIDTH="10" HEIGHT="8"/>'
            '<String CONTENT="b" HPOS="20" VPOS="4" WIDTH="10" HEIGHT="8"/></TextLine>',
            ((5, 4), (30, 14)),
        ),
        (
            '<TextLine HPOS="10" VPOS="20" WIDTH="100" HEIGHT="30"><Shape><Polygon POINTS="1 2 3"/></Shape>'
            '<String CONTENT="a"/></TextLine>',
            ((10, 20), (110, 50)),
        ),
        (
            '<TextLine><Shape><Polygon POINTS="9 50 9 20 99 24 98 55"/></Shape><String CONTENT="a"/>'
            "</TextLine>",
            ((9, 20), (99, 24), (98, 55), (9, 50)),
        ),
    ],
)
def test_without_a_polygon_the_box_is_taken_and_four_points_begin_at_the_top_left(tmp_path, line, polygon):
    assert line_of(tmp_path, line).image.polygon == polygon


def test_a_line_without_a_place_or_a_text_goes_to_the_ledger(tmp_path):
    assert line_of(tmp_path, '<TextLine ID="x"><String CONTENT="a"/></TextLine>').reason == "malformed"
    assert line_of(tmp_path, LINE.format("")).reason == "empty_text"


@pytest.mark.parametrize(
    ("unit", "page", "size"),
    [
        ("pixel", 'WIDTH="200" HEIGHT="100"', (400, 200)),
        ("mm10", 'WIDTH="200" HEIGHT="100"', (400, 200)),
        ("inch1200", 'WIDTH="200.2" HEIGHT="100"', (400, 200)),
        ("MM10", 'WIDTH="200" HEIGHT="100"', (400, 201)),
    ],
)
def test_coordinates_are_brought_to_the_pixels_of_the_image(tmp_path, unit, page, size):
    line = LINE.format('<String CONTENT="a"/>').replace("HPOS", 'BASELINE="10 40 110 40" HPOS', 1)
    found = line_of(tmp_path, line, unit=unit, page=page, size=size)
    np.testing.assert_allclose(found.image.polygon, ((20, 40), (220, 100)), atol=0.6)
    np.testing.assert_allclose(found.meta["baseline"], ((20, 80), (220, 80)), atol=0.6)


def test_other_units_need_the_pages_size(tmp_path):
    found = line_of(tmp_path, LINE.format('<String CONTENT="a"/>'), unit="mm10", page="")
    assert "does not give the page's size" in found.detail
    found = line_of(tmp_path, LINE.format('<String CONTENT="a"/>'), page='WIDTH="0" HEIGHT="x"')
    assert found.image.polygon == ((10, 20), (110, 50))


def test_an_image_of_other_proportions_is_not_the_described_one(tmp_path):
    found = line_of(tmp_path, LINE.format('<String CONTENT="a"/>'), size=(100, 200))
    assert found.reason == "malformed"
    assert "200×100" in found.detail
    assert "100×200" in found.detail


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("scan.png", "scan.png"),
        ("", "1.jpg"),
        ("C:\\scans\\scan.png", "scan.png"),
        ("/mnt/x/scan.png", "scan.png"),
        ("https://example.org/iiif/default.jpg", "1.png"),
        ("gone.png", "1.tif"),
        ("images/scan.png", "images/scan.png"),
    ],
)
def test_the_image_is_found_as_written_or_by_the_files_name(tmp_path, written, there):
    (tmp_path / "images").mkdir()
    save(tmp_path, alto(LINE.format('<String CONTENT="a"/>'), image=written), image=there)
    (page,) = read(tmp_path)
    assert (page.image, page.image_path) == (tmp_path / there, there)


def test_images_one_folder_up_are_found_within_the_source(tmp_path):
    save(tmp_path, alto(LINE.format('<String CONTENT="a"/>')), name="alto/1.xml")
    (page,) = read(tmp_path)
    assert (page.image_path, page.id) == ("1.png", "alto/1.xml")
    (page,) = read(tmp_path / "alto")
    assert page.image == tmp_path / "alto" / "1.png", "not there: said by the check of images"


def test_a_page_without_any_image_goes_to_the_ledger(tmp_path):
    (left_out,) = read(save(tmp_path, alto(LINE.format('<String CONTENT="a"/>'), image=""), image=None))
    assert left_out.reason == "missing"


def test_several_pages_in_a_file_have_no_images_of_their_own(tmp_path):
    xml = alto("").replace("</Layout>", '<Page WIDTH="1"/></Layout>')
    (left_out,) = read(save(tmp_path, xml))
    assert "2 pages" in left_out.detail
    (left_out,) = read(save(tmp_path, "<alto/>"))
    assert "no Page" in left_out.detail


def test_a_damaged_file_costs_itself_only(tmp_path):
    save(tmp_path, alto(LINE.format('<String CONTENT="a"/>')))
    save(tmp_path, alto("")[:-30], name="2.xml", image=None)
    save(tmp_path, '<!DOCTYPE alto [<!ENTITY a "b">]><alto/>', name="3.xml", image=None)
    save(tmp_path, "<mets/>", name="mets.xml", image=None)
    good, *bad = read(tmp_path)
    assert good.text == "a"
    assert [Path(item.source).name for item in bad] == ["2.xml", "3.xml", "mets.xml"]
    assert all(item.reason == "malformed" for item in bad)


def test_a_folder_without_xml_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no file"):
        read(tmp_path)


@given(st.text("0123456789.,- eEinfna", max_size=40), st.text("0123456789-.einf", max_size=9))
def test_any_numbers_are_read_or_left_out_clearly(tmp_path_factory, points, number):
    folder = tmp_path_factory.getbasetemp()
    line = (
        f'<TextLine HPOS="{number}" VPOS="{number}" WIDTH="{number}" HEIGHT="9" BASELINE="{points}"><Shape>'
        f'<Polygon POINTS="{points}"/></Shape><String CONTENT="a"/></TextLine>'
    )
    found = line_of(folder, line, page=f'WIDTH="{number}" HEIGHT="{number}"')
    assert found.reason == "malformed" if isinstance(found, Excluded) else found.text == "a"


@pytest.fixture(scope="module")
def tapus(shared: Path) -> tuple[Path, dict[str, str]]:
    """A folder of ALTO files of typewritten pages, and the labels that were made of them by other code."""
    folder = shared / "data" / "tapus_alto"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/tapus_alto (real ALTO files), which is not here")
    rows = (folder / "labels.tsv").read_text(encoding="utf-8").split("\n")
    labels = {path: unescape(text) for path, text in (row.split("\t", 1) for row in rows if row)}
    return folder, labels


def test_pages_of_a_real_collection_have_the_texts_of_its_labels(tapus):
    folder, labels = tapus
    assert FORMAT.recognises(folder / "pages", b"")
    pages = read(folder / "pages")
    expected = {path: text for path, text in labels.items() if path.startswith("pages/")}
    assert {f"pages/{page.image_path}": page.text for page in pages} == expected
    assert len(expected) == 13


def test_lines_of_a_real_collection_have_the_texts_and_images_of_its_labels(tapus):
    folder, labels = tapus
    found = {
        line.id.rsplit("_line_")[-1]: line
        for line in read(folder / "pages", unit="line")
        if isinstance(line, Candidate)
    }
    expected = {re.split("_line_|[.]jpg$", path)[-2]: path for path in labels if path.startswith("lines/")}
    assert len(expected) == 226
    assert {key: found[key].text for key in expected} == {key: labels[path] for key, path in expected.items()}
    pages: dict[Path, Image.Image] = {}
    for key, path in list(expected.items())[::20]:
        crop = found[key].image
        page = pages.setdefault(crop.page, open_image(crop.page))
        line, label = cut(page, crop.polygon), open_image(folder / path)
        # The labels' images are boxes with margins of 3 and 2 pixels, saved as JPEG; ours have no neighbours.
        assert (label.width - line.width, label.height - line.height) == (6, 4)
        ours = np.asarray(line).astype(int)
        theirs = np.asarray(label)[2:-2, 3:-3].astype(int)
        assert np.median(np.abs(ours - theirs)) <= 6
