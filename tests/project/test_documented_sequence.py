"""After `make demo`, every command and snippet of the README and of docs/ runs as it is written, with smaller
sizes.
"""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers.documented import ROOT, lay_out, program, run_page

RUN_ELSEWHERE = ("your_agent.md", "add_an_environment.md")
"""tests/agents/test_foreign_agent.py runs these two."""
DOCS = ROOT / "docs"
LISTED = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
"""The pages of the site, in the order of its menu."""
FIRST = (DOCS / "pipeline.md", ROOT / "README.md")
"""The sequence comes first: other pages use its variables and files."""
OTHERS = [DOCS / name for name in LISTED if name not in ("pipeline.md", *RUN_ELSEWHERE)]
PAGES = [*FIRST, *OTHERS]
AGENT = ROOT / "pretrained" / "coinrun_easy_200" / "seed_0_finished" / "model.safetensors"


def test_the_blocks_of_a_page_form_one_script_and_its_snippets_one_program(tmp_path):
    blocks = ("", "python a.py"), ("python", "x = 1"), ("", "file.txt  a listing"), ("bash", "python b.py")
    page = "".join(f"```{language}\n{text}\n```\n" for language, text in (*blocks, ("python", "print(x)")))
    assert program(page, tmp_path) == "python a.py\n\npython b.py\n\npython snippets.py"
    assert (tmp_path / "snippets.py").read_text() == "x = 1\n\nprint(x)\n"


def test_the_menu_of_the_site_lists_every_page_once():
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md") if "templates" not in path.parts]
    assert sorted(LISTED) == sorted(map(str, pages))


def test_the_stand_in_adds_small_sizes_and_records_failures(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```\nNAME=x\npython -m json.tool $NAME\npython made.py --a 1\n```\n")
    lay_out(tmp_path, {"made": "--a 2"})
    (tmp_path / "made.py").write_text("import sys; print(sys.argv[1:])")
    first, second = run_page(page, tmp_path, dict(os.environ))
    assert first["rc"] != 0
    assert first["command"] == "-m json.tool x"
    assert second["rc"] == 0
    assert "['--a', '1', '--a', '2']" in second["said"]


@pytest.mark.slow
def test_every_command_and_snippet_runs_as_it_is_written(tmp_path):
    """Mostly starts of scripts: those of the pipeline page take about seven minutes of processor time."""
    lay_out(tmp_path)
    env = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    levels = ("--start_level", "100000", "--num_levels", "400000", "--num_episodes", "80")
    recording = (
        "record.py",
        "--exp_name",
        "demo",
        "--agent_file",
        str(AGENT),
        *levels,
        "--out_dir",
        "demo/coinrun",
    )
    subprocess.run([sys.executable, *recording], cwd=tmp_path, env=env, check=True)
    ran = {page.relative_to(ROOT): run_page(page, tmp_path, env) for page in PAGES}
    wrong = [
        f"{page}: {one['command']}\n{one['said']}"
        for page, commands in ran.items()
        for one in commands
        if one["rc"]
    ]
    assert not wrong, "\n\n".join(wrong)
    assert len(ran[FIRST[0].relative_to(ROOT)]) > 40
