"""Runs the commands and snippets of the pages as they are written, in a copy of the repository after
`make demo`.

Pages run in a shell whose `python` is a stand-in: it appends flags for small sizes to the command of the page
(the last value of a flag counts) and logs the result of each command.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("AGENT", "MODEL", "DATA", "DISCOVERY", "SIMULATED")
"""Variables that the sequence of docs/pipeline.md sets and other pages use."""
SMALL = {
    "train": "--param_name demo --num_timesteps 4096 --num_checkpoints 2 --eval_episodes 4",
    "train --exp_name finish": (
        "--param_name half-rec-finish --num_timesteps 1 --num_checkpoints 2 --eval_episodes 4"
    ),
    "agents.publish": "--out_dir published",
    "evaluate": "--num_levels 8 --num_episodes 8",
    "render": "--num_eps 1",
    "render --world_model_file": "--num_sim_steps 4",
    "record": "--num_episodes 80",
    "record coinrun": "--num_episodes 160",
    "train_gen_model": "--interpreting_params_name tiny --num_batches 2 --batch_size 4",
    "train_gen_model coinrun": (
        "--interpreting_params_name small --world_model_file pretrained/coinrun_simulator/model.safetensors"
    ),
    "analysis.report_card": "--num_windows 4 --training_windows 4 --batch_size 4",
    "analysis.oracle_table": "--num_windows 4 --batch_size 4",
    "analysis.real_check": (
        "--part all --num_fork_points 4 --draws 2 --num_hazards 4 --hazard_draws 2 --steps 4"
    ),
    "analysis.true_q": "--num_fork_points 2 --draws 2 --steps 8",
    "analysis.real_vs_simulated": "--part all --num_fork_points 2 --steps 4",
    "analysis.gradient_check": "--num_states 8 --num_rollouts 4 --horizons 1 2",
    "loss_over_time_exp": "--part train --num_batches 1 --batch_size 4 --num_sim_steps 4",
    "train_dt": "--param_name tiny --num_batches 4 --batch_size 4 --context_length 20",
    "evaluate_dt": "--num_levels 4 --num_episodes 4 --target_returns 0 5 10",
    "record_gen_samples": "--num_samples 100 --num_sim_steps 12",
    "record_informinit_gen_samples": "--num_samples 8 --num_sim_steps 6",
    "analysis.interventions_precompute": "--scenes any --num_fork_points 3 --steps 2 --strengths 1",
    "analysis.interventions_clips": "--scenes any --num_fork_points 3 --steps 3 --results results/c.json",
    "analysis.policy_field_precompute": "--num_levels 1 --headroom 1 --num_steps 4 --compared_frames 1",
    "analysis.policy_field_plotting": "--results results/field.json --images results/images",
    "analysis.encoded_used_precompute": "--num_scenes 5 --steps 2 --num_nulls 39",
    "analysis.interventions_plotting": "--results results/interventions.json --images results/images",
    "analysis.goal_misgeneralisation_precompute": "--num_levels 4 --steps 40 --wait 5",
    "analysis.goal_misgeneralisation_plotting": (
        "--results results/goal_misgeneralisation.json --images results/images"
    ),
    "analysis.interchange_precompute": "--num_scenes 4 --frames 2",
    "analysis.interchange_plotting": "--results results/interchange.json --images results/images",
    "analysis.edited_levels_precompute": "--level_edits crate_added --num_states 4 --steps 2 --draws 1",
    "analysis.concept_directions": "--components 4",
    "analysis.edited_levels_plotting": "--results results/edited_levels.json --images results/images",
    "record_gen_samples --action_grid": "--num_samples 2",
    "interpolation_exp": "--num_pairs 1 --num_points 3 --num_sim_steps 4",
    "saliency_exps": "--sample_ids 0 to 6 --draws 1 --num_sim_steps 6",
    "benchmarks.saliency_maps": (
        "--num_samples 2 --num_noisy 2 --draws 2 --out_file results/saliency_maps.json"
    ),
    "benchmarks.saliency": (
        "--num_samples 2 --batch_size 2 --draws 2 --num_directions 1 --rounds 1"
        " --out_file results/saliency_cost.json"
    ),
    "analysis.saliency_truth_precompute": (
        "--part all --num_states 6 --min_objects 2 --fork_steps 2 --fork_draws 1 --randomised_states 2"
        " --smooth_draws 2 --ig_steps 2 --patch 32 --stride 32"
    ),
    "analysis.saliency_truth_plotting": (
        "--results results/saliency.json --images results/images --benchmark results/saliency_v1"
    ),
    "target_function_exps": (
        "--num_starts 2 --start_pool 2 --num_iterations 4 --num_rollouts 2 --eval_every 2 --eval_rollouts 2"
        " --report_rollouts 4 --num_moments 100 --num_shown 2"
    ),
    "analysis.memory_precompute": "--num_episodes 12 --num_levels 4 --num_fork_points 10 --play_frames 0 1",
    "analysis.side_by_side_precompute": "--epochs 1 --draws 2 --components 4",
    "analysis.scene_bank": "--num_scenes 60",
    "analysis.probes_precompute": "--epochs 1",
    "analysis.emergence_precompute": "--every 100 --epochs 1 --frame_episodes 80 --num_episodes 80",
    "analysis.hidden_analysis_precompute": (
        "--methods pca ica --draws 0 --maps tsne --points 500 --path_episodes 4"
    ),
    "analysis.hidden_analysis_plotting": "--animations value",
    "analysis.show_hx_overlap_precompute": "--points 100",
    "analysis.env_h_analysis_precompute": "--draws 0 --maps --points 300 --clusters 8",
    "analysis.sml_analysis_precompute": "--draws 0 --maps --points 300 --clusters 8",
    "analysis.combined_agent_env_hx_analysis_precompute": "--draws 0 --maps --points 300 --clusters 4",
    "analysis.xcorr_and_xcaus_precompute": "--draws 20 --lags 2",
    "analysis.jacobian_analysis_precompute": (
        "--score_step 2 --env_components 8 --draws 0 --maps --clusters 4"
    ),
    "analysis.jacobian_check": "--written_lags 1 2 --num_episodes 20",
    "analysis.xcaus_precompute": "--resamples 50 --extrema_steps 0 --extrema_quantile 0.3",
    "analysis.dynamics_grads_consistency_precompute": "--draws 20 --permutations 100 --resamples 20",
}
"""Flags appended to a script's own, by module; a second word limits the entry to commands with that word.

`data/coinrun` holds layouts of every part. The world model that later pages use goes on from the shipped one:
a model that has barely begun to train ends nearly every episode at once, and too few simulated steps are left
to analyse.
"""
STAND_IN = """#!{python} -SI
import json, os, resource, subprocess, sys, time
words = sys.argv[1:]
if words[0] == "-m":
    module = words[1]
else:
    module = next(word for word in words if word.endswith(".py")).removesuffix(".py").replace("/", ".")
small = [
    flags for key, flags in {small}.items() if key.split()[0] == module and set(key.split()[1:]) <= set(words)
]
command, begun = [{python!r}, *{torchrun}, *words, *" ".join(small).split()], time.time()
done = subprocess.run(
    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
result = {{
    "command": " ".join(words),
    "rc": done.returncode,
    "seconds": time.time() - begun,
    "cpu": used.ru_utime + used.ru_stime,
    "said": done.stdout[-2000:],
}}
with open({log!r}, "a") as log:
    log.write(json.dumps(result) + "\\n")
"""


def lay_out(place: Path, small: dict[str, str] = SMALL) -> None:
    """Fill a directory with links to the repository, a copy of `pretrained`, and a `bin` with stand-ins
    for python and torchrun.
    """
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", "pretrained", "results", "data", "logs", "demo"):
            (place / path.name).symlink_to(path)
    shutil.copytree(ROOT / "pretrained", place / "pretrained")
    (place / "bin").mkdir()
    for name in ("python", "torchrun"):
        text = STAND_IN.format(
            python=sys.executable,
            torchrun=["-m", "torch.distributed.run"] if name == "torchrun" else [],
            small=small,
            log=str(place / "log.jsonl"),
        )
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    (place / "bin" / "make").write_text("#!/bin/sh\n")  # the test has recorded the demo's episodes
    (place / "bin" / "make").chmod(0o755)


def program(page: str, place: Path) -> str:
    """The blocks of a page as one shell script. Its Python snippets form one program, run at the place of the
    last one.
    """
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    snippets = [text for language, text in blocks if language == "python"]
    (place / "snippets.py").write_text("\n".join(snippets))
    parts = []
    left = len(snippets)
    for language, text in blocks:
        left -= language == "python"
        if language == "python" and not left:
            parts.append("python snippets.py")
        elif language in ("", "bash") and re.search(r"^(python|torchrun|make) ", text, flags=re.MULTILINE):
            parts.append(text)
    return "\n".join(parts)


def run_page(page: Path, place: Path, env: dict[str, str]) -> list[dict]:
    """Run a page with the variables of the pages before it; return the result of each command."""
    log = place / "log.jsonl"
    log.write_text("")
    keep = f"declare -p {' '.join(NAMES)} > names.sh 2> /dev/null"
    script = "\n".join(("[ -f names.sh ] && . ./names.sh", program(page.read_text(), place), keep, ""))
    (place / "page.sh").write_text(script)
    done = subprocess.run(
        ["bash", "page.sh"],
        cwd=place,
        env=env | {"PATH": f"{place / 'bin'}:{env['PATH']}"},
        capture_output=True,
        text=True,
    )
    results = [json.loads(line) for line in log.read_text().splitlines()]
    return results + ([{"command": "the shell", "rc": 1, "said": done.stderr}] if done.stderr else [])
