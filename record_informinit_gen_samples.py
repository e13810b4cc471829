"""Records simulated rollouts from recorded starting points, with directions of the agent's state swapped.

--swap_directions_from 10 5 --swap_directions_to 12 None: where the agent's hidden state would move along
direction 10, it moves by the same amount along 12, and not at all along 5. Without these flags, the rollouts
are the control arm: same starting points, same noise. The same command again resumes.
"""

from analysis.recording.args import GenSamplesArgs as Args
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.recording.gen_samples import record_gen_samples as main

if __name__ == "__main__":
    run_main(main, ARGS)
