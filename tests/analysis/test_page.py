"""HTML pages are self-contained and escape their text."""

import numpy as np

from analysis.plotting.page import Page
from common.video import write_video


def test_a_page_embeds_everything_and_escapes_its_text(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8))
    page = Page("<title> & more")
    page.heading("one < two")
    page.table(["a"], [["<b>"]])
    page.clips([(tmp_path / "a.mp4", "a clip")])
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "&lt;title&gt; &amp; more" in text
    assert "one &lt; two" in text
    assert "<td>&lt;b&gt;</td>" in text
    assert 'src="data:video/mp4;base64,' in text
    assert "http" not in text
