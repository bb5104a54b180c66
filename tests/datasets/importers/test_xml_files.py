"""XML from unknown hands: what is refused, and that nothing of it reaches out or fills the memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.importers import xml_files
from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.file_trees import open_files, some_heads, walk_files
from ocrsmith.datasets.importers.xml_files import iterate_elements, root_name
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

GOOD = (
    '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Page ID="p"><String CONTENT="é 字"/></Page></alto>'
)


def elements(folder: Path, data: str | bytes, encoding: str = "utf-8") -> list:
    file = folder / "page.xml"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(iterate_elements(file, ("Page",), root="alto", encoding=encoding))


def problem(folder: Path, data: str | bytes, encoding: str = "utf-8") -> DataError:
    with pytest.raises(DataError) as caught:
        elements(folder, data, encoding)
    assert caught.value.place == str(folder / "page.xml")
    assert caught.value.mend
    return caught.value


def content(folder: Path, data: bytes, encoding: str = "utf-8") -> str:
    (page,) = elements(folder, data, encoding)
    return page.find("String").get("CONTENT")


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://x/v2"', ' xmlns="http://x/v4#"'])
def test_elements_are_found_in_whatever_namespace(tmp_path, namespace):
    (page,) = elements(tmp_path, f"<alto{namespace}><Page ID='p'/></alto>")
    assert (page.tag, page.get("ID")) == ("Page", "p")


def test_a_prefixed_namespace_is_taken_off(tmp_path):
    assert len(elements(tmp_path, "<a:alto xmlns:a='http://x'><a:Page/></a:alto>")) == 1


def test_each_page_comes_when_it_is_complete(tmp_path):
    file = tmp_path / "page.xml"
    file.write_text("<alto>" + "<Page>" + "<x/>" * 40_000 + "</Page>" + "<Page/><Page>", encoding="utf-8")
    pages = iterate_elements(file, ("Page",), root="alto", encoding="utf-8")
    assert len(next(pages)) == 40_000
    assert len(next(pages)) == 0
    with pytest.raises(DataError, match="damaged"):
        next(pages)


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
<!ENTITY lol1 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">
<!ENTITY lol2 "&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;">]>
<alto><Page>&lol2;</Page></alto>"""


def test_an_entity_bomb_is_refused(tmp_path):
    assert "document type or entities" in problem(tmp_path, BOMB).problem


def test_an_external_entity_is_refused_unread(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET", encoding="utf-8")
    xml = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]><alto><Page>&x;</Page></alto>'
    assert "SECRET" not in str(problem(tmp_path, xml))


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE alto SYSTEM "http://127.0.0.1:9/alto.dtd">',
        "<!DOCTYPE alto>",
        '<!DOCTYPE alto [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>',
    ],
)
def test_a_document_type_is_refused_and_nothing_fetched(tmp_path, doctype):
    assert "<!DOCTYPE" in problem(tmp_path, f"{doctype}<alto/>").mend


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("<alto><Page>", "damaged"),
        ("<alto><Page></alto>", "damaged"),
        ("<alto></alto><alto/>", "damaged"),
        ("plain text", "damaged"),
        ("<alto>&nope;</alto>", "damaged"),
        ("<alto>\x00</alto>", "damaged"),
        ("<PcGts/>", "outermost element is <PcGts>, not <alto>"),
        ("<a>" * 10, "outermost element is <a>"),
    ],
)
def test_damage_is_named(tmp_path, data, said):
    assert said in problem(tmp_path, data).problem


def test_damage_is_named_with_its_line(tmp_path):
    assert "line 3" in problem(tmp_path, "<alto>\n<Page>\n</alto>").problem


def test_depth_number_of_elements_and_size_are_bounded(tmp_path, monkeypatch):
    assert "deeper than 100" in problem(tmp_path, "<alto>" + "<a>" * 100_000).problem
    monkeypatch.setattr(xml_files, "MAX_ELEMENTS", 1000)
    assert "more than 1,000" in problem(tmp_path, "<alto>" + "<a/>" * 2000 + "</alto>").problem
    monkeypatch.setattr(xml_files, "MAX_BYTES", 1000)
    assert "at most 1,000 are read" in problem(tmp_path, "<alto>" + " " * 2000 + "</alto>").problem


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"]
)
def test_declared_and_marked_encodings_are_read(tmp_path, encoding):
    name = encoding.removesuffix("-sig")
    assert content(tmp_path, f'<?xml version="1.0" encoding="{name}"?>{GOOD}'.encode(encoding)) == "é 字"


def test_expat_need_not_know_the_encoding(tmp_path):
    declared = '<?xml version="1.0" encoding="GB2312"?><alto><Page><String CONTENT="字"/></Page></alto>'
    assert content(tmp_path, declared.encode("gb2312")) == "字"
    declared = '<?xml version="1.0" encoding="windows-1256"?><alto><Page><String CONTENT="سلام"/></Page></alto>'
    assert content(tmp_path, declared.encode("cp1256")) == "سلام"


def test_the_users_encoding_goes_before_a_wrong_declaration(tmp_path):
    text = '<?xml version="1.0" encoding="UTF-8"?><alto><Page><String CONTENT="你好世界"/></Page></alto>'
    error = problem(tmp_path, text.encode("gb18030"))
    assert "0x" in error.problem
    assert "--encoding gb18030" in error.mend
    assert content(tmp_path, text.encode("gb18030"), "gb18030") == "你好世界"


@pytest.mark.parametrize("name", ["klingon", "rot13", "zip", "bz2", "undefined"])
def test_an_encoding_that_is_none_is_named(tmp_path, name):
    assert name in problem(tmp_path, f'<?xml version="1.0" encoding="{name}"?><alto/>').problem


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"<alto>", "alto"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- <x> --><alto:alto a='1'>", "alto"),
        ("<?xml?><PcGts/>".encode("utf-16"), "PcGts"),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]><alto>", "alto"),
        (b"<!-- cut", ""),
        (b"", ""),
        (b"text", ""),
        (b"<", ""),
        (b"\xff\xfe", ""),
        (b"<?xml?>" * 1000, ""),
    ],
)
def test_the_outermost_element_is_recognised(head, name):
    assert root_name(head) == name


@given(st.binary(max_size=300))
def test_recognising_never_raises(head):
    root_name(head)


@given(st.one_of(st.binary(max_size=200), st.text("<>/alto Page='&;!-[]?\"", max_size=120).map(str.encode)))
def test_any_bytes_are_read_or_refused_clearly(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    try:
        elements(folder, b"<alto>" + data)
    except DataError as error:
        refused = bool(error.problem and error.mend and error.place)
    else:
        refused = True
    assert refused


def source(path: Path, **options):
    def read_file(file, root, options):
        yield Candidate(None, "", file.read_text(encoding="utf-8"), str(file), None)
        if "bad" in file.name:
            raise DataError("It is bad.", place=str(file), mend="Mend it.")

    return open_files(path, ImportOptions(**options), name="x", suffixes=(".xml",), read_file=read_file)


def test_files_of_a_folder_come_in_a_stable_order_each_at_its_own_risk(tmp_path):
    for name in ("b/2.xml", "a.xml", "b/1.XML", "bad.xml", "c.txt", ".hidden.xml", ".git/x.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    found = source(tmp_path)
    items = list(found.read())
    assert [item.text for item in items if isinstance(item, Candidate)] == [
        "a.xml",
        "bad.xml",
        "b/1.XML",
        "b/2.xml",
    ]
    assert [item for item in items if isinstance(item, Excluded)] == [
        Excluded("malformed", "It is bad. Mend it.", "", str(tmp_path / "bad.xml"))
    ]
    assert (found.rows, found.kind) == (4, "x")
    assert "--unit line" in found.notes[0]


def test_a_folder_without_such_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no file that ends in \.xml"):
        source(tmp_path)


def test_a_link_that_leads_out_goes_to_the_ledger_unless_allowed(tmp_path):
    (tmp_path / "private.xml").write_text("private", encoding="utf-8")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "1.xml").symlink_to(tmp_path / "private.xml")
    (left_out,) = source(folder).read()
    assert left_out.reason == "outside"
    (taken,) = source(folder, allow_outside=True).read()
    assert taken.text == "private"
    (taken,) = source(folder / "1.xml").read()
    assert taken.text == "private", "it was named by the user"


def test_links_to_folders_are_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "1.xml").touch()
    assert list(walk_files(tmp_path, (".xml",))) == [tmp_path / "a" / "1.xml"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.xml")
    with pytest.raises(DataError, match="not a regular file"):
        list(iterate_elements(tmp_path / "pipe.xml", ("Page",), root="alto", encoding="utf-8"))
    assert list(some_heads(tmp_path, b"", (".xml",))) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        list(iterate_elements(tmp_path / "no.xml", ("Page",), root="alto", encoding="utf-8"))
