"""Pages quote the numbers of their artefacts."""

import json

import pytest

from analysis import results

ARTEFACT = {
    "score": {"mean": 7.251, "slope": [0.5, 0.25, 0.75]},
    "auroc": {"value": 0.9, "low": 0.8, "high": 1},
}


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A page's template and the artefact that it quotes; call it with the template's text."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for folder in ("docs/results", "docs/templates"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "docs/results/a.json").write_text(json.dumps(ARTEFACT))

    def write(text):
        path = tmp_path / "docs/templates/page.md"
        path.write_text(text)
        return path

    return write


def body(template):
    return results.render(template).removeprefix(results.NOTE.format(name=template.name))


@pytest.mark.parametrize("template", results.templates(), ids=lambda path: path.name)
def test_every_page_is_what_its_template_and_artefacts_give(template):
    page = results.page_of(template)
    assert page.read_text() == results.render(template), f"{page.name} is not up to date; run: make results"


def test_no_page_quotes_numbers_in_comments():
    pages = [results.ROOT / "README.md", *(results.ROOT / "docs").glob("**/*.md")]
    assert not [page.name for page in pages if "<!--=" in page.read_text()]


def test_a_number_is_formatted(template):
    assert body(template('x {{ results.a.score.mean | num(".1f") }} y\n')) == "x 7.3 y\n"


def test_zero_has_no_sign():
    assert results.num(-0.001, ".2f") == "0.00"
    assert results.num(-0.01, ".2f") == "-0.01"


def test_an_estimate_is_quoted_with_its_interval(template):
    assert body(template('{{ results.a.score.slope | ci(".2f") }}')) == "0.50 [0.25, 0.75]"


def test_an_estimate_may_be_a_mapping(template):
    assert body(template('{{ results.a.auroc | ci(".0%") }}')) == "90% [80%, 100%]"


def test_a_row_of_the_card_is_found_by_its_key_and_may_lack_a_value(template, tmp_path):
    nothing = {"value": None, "low": None, "high": None}
    rows = [{"key": "a", **ARTEFACT["auroc"]}, {"key": "b", **nothing}, {"key": "c", **nothing, "value": 1}]
    (tmp_path / "docs/results/card.json").write_text(json.dumps(rows))
    text = '{% set t = results.card | by_key %}{{ t.a | score(".1f") }}; {{ t.b | score }}; {{ t.c | score }}'
    assert body(template(text)) == "0.9 [0.8, 1.0]; not measured; 1"


def test_a_changed_artefact_changes_the_page(template, tmp_path):
    path = template('{{ results.a.score.mean | num(".1f") }}')
    (tmp_path / "docs/results/a.json").write_text('{"score": {"mean": 2}}')
    assert body(path) == "2.0"


@pytest.mark.parametrize(
    "text", ["{{ results.a.score.low | num }}", "{{ results.b.score | num }}", "{% if %}"]
)
def test_a_number_that_no_artefact_holds_is_an_error_that_names_the_template(template, text):
    with pytest.raises(ValueError, match=r"templates/page\.md"):
        results.render(template(text))
