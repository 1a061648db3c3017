"""The page of a report: whole, safe, the same facts in every form, and drawn by a real browser."""

import os
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import chromium
import pandas as pd
import pytest
from sample_report import HOSTILE, sample

from fastmlp.errors import DataError, OutputError
from fastmlp.studies.findings import FAILS, HOLDS, UNDECIDED, Claim, Comparison, Figure, Finding, Report, Table
from fastmlp.studies.page import write_report
from fastmlp.studies.page_html import html_page
from fastmlp.studies.page_markdown import markdown_page
from fastmlp.studies.reading import ours, read, spread

VOID = {"meta", "img", "link", "br"}
SVG = '<svg viewBox="0 0 300 150" xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


class Outline(HTMLParser):
    """Elements, ids, links and words of a page; fails where an element is left open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.badges = [], [], [], Counter()
        self.feed(text)
        assert self.open == [], "elements are left open"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes).get("class", "")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] != "style":
            self.words.append(data)
            if self.open[-1][1].startswith("badge"):
                self.badges[data.strip()] += 1

    def having(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def report():
    return sample()


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    write_report(report, folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def small(**finding):
    return Report("Studies", (), (Finding("001", "One", "It was trained.", **finding),))


def test_the_page_is_one_file_without_network_and_script(html):
    assert len(html) < 1_000_000
    page = Outline(html)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "video")]
    assert all(source.startswith("data:image/") for source in page.having("src"))
    assert not re.search(r"""(href|src|url)\s*[=(]\s*["']?(https?:)?//""", html)
    assert "@import" not in html


def test_links_lead_somewhere_and_ids_are_unique(html, folder):
    page = Outline(html)
    ids = page.having("id")
    assert len(set(ids)) == len(ids)
    for link in page.having("href"):
        assert link == "data:," or link.removeprefix("#") in ids or (folder / link).is_file(), link
    for label in page.having("aria-labelledby"):
        assert label in ids
    assert all(page.having("alt"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_every_text_is_shown_as_it_is_and_never_as_markup(html, folder):
    page = Outline(html)
    assert not [tag for tag, _ in page.elements if tag == "script"]
    assert page.text.count(HOSTILE) == 14
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text.replace("\\<", "")
    assert "piped_text" not in text.replace("\\_", "")
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| Does")}
    assert widths == {3, 6}, "a pipe in a cell began another cell"


@pytest.mark.parametrize(("text", "escaped"), [
    ("1. one", r"1\. one"), ("- one", r"\- one"), ("# one", r"\# one"), ("2) two", r"2\) two"),
    ("0.41 ± 0.1", "0.41 ± 0.1"), ("-0.5", "-0.5"), ("a_b *c* $d$ ~e~", r"a\_b \*c\* \$d\$ \~e\~"), (r"a\b", r"a\\b"),
    ("two\n\n# lines", "two # lines"),
])
def test_text_means_nothing_to_markdown(text, escaped):
    assert f"\n\n{escaped}\n" in markdown_page(Report("Studies", (), (Finding("001", "One", text),)))


def test_page_and_markdown_state_the_same_facts(report, html, folder):
    page = Outline(html).text
    escaped = (folder / "report.md").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"\\(?=[\W_])", "", escaped).replace("|", " ").split())
    page = " ".join(page.replace("|", " ").split())
    facts = [report.title, *(word for pair in report.circumstances for word in pair), *read(report).sentences()]
    for finding in report.findings:
        facts += [finding.study, finding.title, finding.asked, *finding.notes]
        for comparison in finding.comparisons:
            facts += [comparison.what, f"{comparison.reported:g}", comparison.remark]
            facts += [f"{comparison.mean:.3f}"[:4], f"{comparison.n} seed"] if comparison.mean else ["none finished"]
        facts += [word for claim in finding.claims for word in (claim.text, claim.verdict, claim.evidence)]
        facts += [word for t in finding.tables for row in ((t.title,), t.columns, *t.rows) for word in row]
        facts += [figure.caption for figure in finding.figures]
    for fact in facts:
        fact = " ".join(fact.replace("|", " ").split())
        assert fact in page
        assert fact in text


def test_the_reading_counts_figures_and_claims_and_the_badges_agree(report, html, folder):
    reading = read(report)
    assert [len(part) for part in (reading.within, reading.outside, reading.unknown)] == [16, 1, 2]
    assert {verdict: len(claims) for verdict, claims in reading.claims.items()} == {HOLDS: 3, FAILS: 1, UNDECIDED: 2}
    assert reading.sentences() == ["Of 19 reported figures 16 lie within our spread, 1 does not and of 2 it cannot be "
                                   "said.", "Of 6 claims 3 hold, 1 does not hold and 2 are not decided."]
    assert Outline(html).badges == {"within": 16, "not within": 1, "unknown": 2, HOLDS: 3, FAILS: 1,
                                    UNDECIDED: 2}


@pytest.mark.parametrize(("answers", "sentence"), [
    ([True], "The 1 reported figure that was compared lies within our spread."),
    ([True, True], "All 2 reported figures that were compared lie within our spread."),
    ([False], "Of 1 reported figure 0 lie within our spread and 1 does not."),
    ([True, False, False], "Of 3 reported figures 1 lies within our spread and 2 do not."),
    ([None, True], "Of 2 reported figures 1 lies within our spread and of 1 it cannot be said."),
    ([None], "Ours cannot be compared with the 1 reported figure: they are of other data, of short trainings, or of "
             "one seed."),
    ([None, None], "Ours cannot be compared with the 2 reported figures: they are of other data, of short trainings, "
                   "or of one seed."),
])
def test_the_reading_is_english_whatever_the_counts(answers, sentence):
    assert read(small(comparisons=tuple(Comparison("a", 1, 1, 1, 5, answer) for answer in answers))).sentences() == [
        sentence]


def test_figures_that_cannot_be_compared_are_listed_only_beside_those_that_can():
    whole, part = (small(comparisons=tuple(Comparison("width", 1, 1, 1, 5, answer) for answer in answers))
                   for answers in ((None, None), (None, True)))
    for page in (html_page, markdown_page):
        assert "It cannot be said" not in page(whole)
        assert "It cannot be said" in page(part)


def test_nothing_compared_and_nothing_claimed_is_said():
    assert read(small()).sentences() == ["Nothing was compared and nothing claimed."]
    assert read(small(claims=(Claim("a", HOLDS, "b"),))).sentences() == ["Of 1 claim 1 holds."]


def test_the_spread_is_three_deviations_and_a_hundredth():
    assert spread(Comparison("a", 0.5, 0.5, 0.01, 5, True)) == pytest.approx((0.46, 0.54))
    assert spread(Comparison("a", 0.5, 0.5, None, 1, None)) is None
    assert spread(Comparison("a", 0.5, None, None, 0, None)) is None
    assert spread(Comparison("a", 0.5, 0.5, float("nan"), 5, None)) is None


@pytest.mark.parametrize(("mean", "std", "n", "words"), [
    (None, None, 0, "none finished"), (0.52534, None, 1, "0.5253 (1 seed)"), (0.5, 0.0, 5, "0.5 ± 0 (5 seeds)"),
    (0.52534, 0.00213, 5, "0.5253 ± 0.0021 (5 seeds)"), (1234.5, 45.6, 5, "1234 ± 46 (5 seeds)"),
    (0.5, float("nan"), 2, "0.5 (2 seeds)"),
])
def test_our_figures_are_as_precise_as_their_deviation(mean, std, n, words):
    assert ours(Comparison("a", 0.5, mean, std, n, None)) == words


@pytest.mark.parametrize(("reported", "centre", "beyond"), [(0.5, 66, False), (0.54, 96, False), (0.4, 9, True),
                                                             (0.9, 123, True)])
def test_a_strip_shows_where_in_our_spread_the_reported_figure_lies(tmp_path, reported, centre, beyond):
    write_report(small(comparisons=(Comparison("a", reported, 0.5, 0.01, 5, None),)), tmp_path)
    page = (tmp_path / "report.html").read_text()
    strip = page[page.index("<svg"):page.index("</svg>")]
    assert f'd="M{centre:.1f} 6l' in strip
    assert ("beyond" in strip) == beyond
    assert f'aria-label="reported {reported:g}; our spread reaches from 0.46 to 0.54"' in strip


def test_tables_and_comparisons_read_back(report, folder):
    compared = pd.read_csv(folder / "tables" / "comparisons.csv", keep_default_na=False, na_values=[""])
    assert list(compared) == ["study", "what", "reported", "mean", "std", "n", "within", "remark"]
    assert compared["within"].value_counts().to_dict() == {"yes": 16, "unknown": 2, "no": 1}
    expected = [comparison for finding in report.findings for comparison in finding.comparisons]
    assert compared["reported"].tolist() == [comparison.reported for comparison in expected]
    assert compared["what"].tolist() == [comparison.what for comparison in expected]
    assert compared["mean"].isna().tolist() == [comparison.mean is None for comparison in expected]
    tables = [table for finding in report.findings for table in finding.tables]
    files = sorted(path for path in (folder / "tables").iterdir() if path.name != "comparisons.csv")
    assert len(files) == len(tables)
    for path, table in zip(files, tables, strict=True):
        read_back = pd.read_csv(path, dtype=str)
        assert tuple(read_back) == table.columns
        assert tuple(map(tuple, read_back.to_numpy())) == table.rows


def test_figures_lie_beside_the_page_as_they_were_made(report, folder):
    for figure in (figure for finding in report.findings for figure in finding.figures):
        if figure.svg is not None:
            assert (folder / "figures" / f"{figure.name}.svg").read_text(encoding="utf-8") == figure.svg
        else:
            assert (folder / "figures" / f"{figure.name}.png").read_bytes() == figure.png
    for path in re.findall(r"\]\(([^)]*)\)", (folder / "report.md").read_text(encoding="utf-8")):
        assert (folder / path).is_file()


def test_an_equal_report_gives_equal_files_and_replaces_them(report, folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_report(report, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_table_without_rows_has_its_headings(tmp_path):
    write_report(small(tables=(Table("None", ("a", "b"), ()),)), tmp_path)
    assert (tmp_path / "tables" / "001-1-none.csv").read_text() == "a,b\n"


TWO = tuple(Figure(name, "c", svg=SVG) for name in ("same", "same"))


@pytest.mark.parametrize(("report_", "sentence"), [
    (Report("Studies", ()), "there is nothing to report: no study has findings"),
    (Report("Studies", (), small().findings * 2), "study '001' is there 2 times; names must differ"),
    (small(figures=TWO), "figure 'same' is there 2 times; names must differ"),
    (small(figures=(Figure("../up", "c", svg=SVG),)),
     "figure '../up' cannot name a file; use letters, digits and dashes"),
    (small(figures=(Figure("none", "c"),)), "figure 'none' must have either an SVG or a PNG picture"),
    (small(tables=(Table("T", ("a", "a"), ()),)), "table 'T' has two columns of the same name"),
    (small(tables=(Table("T", ("a",), (("1", "2"),)),)), "table 'T' has a row that is not as long as its 1 headings"),
])
def test_a_report_that_cannot_be_written_is_refused_in_one_sentence_before_anything_is(tmp_path, report_, sentence):
    with pytest.raises(DataError) as refused:
        write_report(report_, tmp_path / "report")
    assert str(refused.value) == sentence
    assert not (tmp_path / "report").exists()


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write a report to .*file: Not a directory; name another folder"):
        write_report(small(), tmp_path / "file")


@pytest.fixture(scope="module")
def browser():
    if chromium.PROGRAM is None:
        assert os.environ.get("FASTMLP_REQUIRE_CHROMIUM") != "1", "FASTMLP_REQUIRE_CHROMIUM=1, but there is no chromium"
        pytest.skip("needs Chromium")
    with chromium.browser() as page:
        yield page


@pytest.mark.parametrize(("width", "height", "dark"), [(360, 800, False), (768, 1024, True), (1280, 800, False)])
def test_a_browser_draws_the_page_without_complaint_and_nothing_is_wider_than_the_screen(
        browser, report, folder, width, height, dark):
    browser.open(folder / "report.html", width, height, dark=dark)
    sizes = browser.value("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) == sum(len(finding.figures) for finding in report.findings)
    assert min(sizes) > 0
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    # Whatever reaches beyond the screen lies in a box that scrolls.
    assert browser.value("""[...document.querySelectorAll("body *")].filter(element =>
        element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll")).length""") == 0
    light = browser.value("getComputedStyle(document.body).backgroundColor").endswith("253, 251)")
    assert light != dark
    assert browser.value('getComputedStyle(document.querySelector("figure img")).backgroundColor') == (
        "rgb(255, 255, 255)")
    assert browser.messages == []


@pytest.mark.parametrize("answer", [True, False, None])
def test_a_comparison_fits_on_a_phone_whatever_its_verdict(browser, tmp_path, answer):
    write_report(small(comparisons=(Comparison("width 50", 0.123456, 0.11934, 0.00212, 5, answer),)), tmp_path)
    browser.open(tmp_path / "report.html", 360, 800)
    assert browser.value("innerWidth") == browser.value("document.documentElement.scrollWidth") == 360


def test_a_browser_prints_the_page_on_a4(browser, folder):
    browser.open(folder / "report.html", 1280, 800)
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    boxes = {tuple(round(float(side)) for side in box.split()) for box in re.findall(rb"/MediaBox \[([^]]*)\]", pdf)}
    assert [box[2:] for box in boxes] in ([(595, 842)], [(596, 842)])
    assert browser.messages == []


def test_the_policy_forbids_the_network(browser, folder, tmp_path):
    page = (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(page.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">'))
    browser.open(tmp_path / "bad.html", 1280, 800)
    assert any("Content Security Policy" in message for message in browser.messages)
    browser.messages.clear()


def test_numbers_stand_to_the_right_and_names_of_networks_do_not():
    table = Table("t", ("setting", "error"), (("50-50", "1e-05"), ("100-50, He", "-0.5 ± 0.1")))
    page = html_page(small(tables=(table,)))
    assert '<th scope="col">setting</th><th scope="col" class="n">error</th>' in page
