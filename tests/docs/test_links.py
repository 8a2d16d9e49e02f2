"""Links lead somewhere, and the front door stays short."""

import pytest

from documents import DOCUMENTS, GUIDE, README, TOP, anchors, links, prose, title_of


def test_documents_link_to_each_other():
    linking = [document for document in DOCUMENTS if links(document)]
    assert [title_of(d) for d in DOCUMENTS if d not in linking] == ["CHANGELOG.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=title_of)
def test_links_lead_to_files_and_headings_that_are_there(document):
    broken = []
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists():
            broken.append(link)
        elif anchor:
            page = target / "README.md" if target.is_dir() else target
            broken += [link] if anchor not in anchors(page) else []
    assert broken == []


def test_the_guide_begins_with_all_its_sections():
    contents, _, _ = prose(GUIDE).partition("## ")
    listed = [
        line.rpartition("(#")[2].rstrip(")") for line in contents.splitlines() if "(#" in line
    ]
    there = [a for a in anchors(GUIDE)[1:] if not a.startswith("mixacm-")]  # a command each
    assert listed == there


def test_the_readme_has_at_most_200_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=title_of)
def test_nothing_is_left_to_fill_in(document):
    text = document.read_text(encoding="utf-8")
    assert not any(mark in text for mark in ("@@", "TODO", "FIXME", "XXX"))


def test_every_readme_is_linked_from_the_front_door():
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    for document in DOCUMENTS:
        assert document == README or {document, document.parent} & linked, title_of(document)
    assert TOP / "LICENSE" in linked
