"""Pages stand alone, and the hidden-state map agrees with an independent computation."""

import numpy as np
import pytest

from analysis.hidden_map import hidden_map
from analysis.page import Page
from common.video import write_video


def test_a_page_holds_everything_and_escapes_what_it_is_told(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8))
    page = Page("<title> & more")
    page.heading("one < two")
    page.table(["a"], [["<b>"]])
    page.clips([(tmp_path / "a.mp4", "a clip")])
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "&lt;title&gt; &amp; more" in text and "one &lt; two" in text and "<td>&lt;b&gt;</td>" in text
    assert 'src="data:video/mp4;base64,' in text and "http" not in text


def test_the_map_is_the_principal_axes_of_real_states_alone():
    rng = np.random.default_rng(0)
    real, simulated = rng.normal(size=(300, 5)) * [1, 2, 3, 4, 5] + rng.normal(size=(300, 1)), rng.normal(size=(40, 5))
    made = hidden_map(real, simulated)
    centre, spread = real.mean(0), real.std(0)
    _, s, axes = np.linalg.svd((real - centre) / spread, full_matrices=False)
    for points, states in ((made.real, real), (made.simulated, simulated)):
        wanted = (states - centre) / spread @ axes[:2].T
        np.testing.assert_allclose(np.abs(points), np.abs(wanted), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(made.explained, (s**2 / (s**2).sum())[:2])
    assert not np.allclose(hidden_map(np.concatenate([real, simulated]), simulated).real[:300], made.real)


def test_the_map_refuses_what_it_cannot_show():
    fine = np.random.default_rng(0).normal(size=(20, 5))
    with pytest.raises(ValueError, match="NaN"):
        hidden_map(fine, np.full((2, 5), np.nan))
    with pytest.raises(ValueError, match="cannot span .* record more"):
        hidden_map(fine[:5], fine)
