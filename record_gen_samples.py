"""Records simulated rollouts of the agent, or of given actions, from recorded or random starting points.

The same command again resumes.
"""

from dataclasses import dataclass

from analysis.recording.args import GenSamplesArgs
from common.cli import parse, run_main


@dataclass
class Args(GenSamplesArgs):
    rand_init: bool = False
    """Start from random latents instead of recorded frames; --data_dir is not read."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.recording.gen_samples import record_gen_samples


def main(args: Args) -> None:
    record_gen_samples(args, args.rand_init)


if __name__ == "__main__":
    run_main(main, ARGS)
