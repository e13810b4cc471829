"""Decision Transformers and behavioural cloning on the same rollouts."""
