"""Where audit records are sent on to: each file one way, to places that the operator's settings name and nowhere else."""
