"""What each part of a world model costs: rollouts in which the truth takes the place of some of them."""
