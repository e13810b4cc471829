"""Jobs on a cluster: batch files, submission, estimates, and chains of dependent steps."""
