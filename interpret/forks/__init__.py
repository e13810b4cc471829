"""Fork points and what is played from them, in the real game and in the simulator."""
