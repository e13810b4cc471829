"""After `make demo`, every command of the README and of docs/, and every snippet, runs as it is written; sizes alone are smaller."""

import os
import re
import subprocess
import sys

import pytest
from documented import ROOT, lay_out, program, run_page

RUN_ELSEWHERE = ("your_agent.md", "add_an_environment.md")
"""tests/test_foreign_agent.py runs these two."""
README = ROOT / "README.md"
LISTED = re.findall(r"^- \[docs/([\w.]+)\]", README.read_text(), flags=re.MULTILINE)
PAGES = [README, *(ROOT / "docs" / name for name in LISTED if name not in RUN_ELSEWHERE)]
"""In the order in which the README lists them."""
AGENT = ROOT / "pretrained" / "coinrun_easy_200" / "seed_0_finished" / "model.safetensors"


def test_blocks_of_a_page_are_one_script_and_its_snippets_one_program(tmp_path):
    page = "```\npython a.py\n```\n```python\nx = 1\n```\n```\nfile.txt  a listing\n```\n```bash\npython b.py\n```\n```python\nprint(x)\n```\n"
    assert program(page, tmp_path) == "python a.py\n\npython b.py\n\npython snippets.py"
    assert (tmp_path / "snippets.py").read_text() == "x = 1\n\nprint(x)\n"


def test_the_readme_lists_every_page():
    assert sorted(LISTED) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_the_stand_in_adds_small_sizes_and_notes_failures(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```\nNAME=x\npython -m json.tool $NAME\npython made.py --a 1\n```\n")
    lay_out(tmp_path, {"made": "--a 2"})
    (tmp_path / "made.py").write_text("import sys; print(sys.argv[1:])")
    first, second = run_page(page, tmp_path, dict(os.environ))
    assert first["rc"] != 0 and first["command"] == "-m json.tool x"
    assert second["rc"] == 0 and "['--a', '1', '--a', '2']" in second["said"]


@pytest.mark.slow
def test_every_command_and_snippet_runs_as_it_is_written(tmp_path):
    """Mostly starts of scripts: those of the README take about seven minutes of processor time, of which maps are the most."""
    lay_out(tmp_path)
    env = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    levels = ("--start_level", "100000", "--num_levels", "400000", "--num_episodes", "80")
    made = ("record.py", "--exp_name", "demo", "--model_file", str(AGENT), *levels, "--out_dir", "demo/coinrun")
    subprocess.run([sys.executable, *made], cwd=tmp_path, env=env, check=True)
    told = {page.name: run_page(page, tmp_path, env) for page in PAGES}
    wrong = [f"{page}: {one['command']}\n{one['said']}" for page, went in told.items() for one in went if one["rc"]]
    assert not wrong, "\n\n".join(wrong)
    assert len(told["README.md"]) > 50
