"""How notices leave: each file one way, to places that the operator's settings name and nowhere else."""
