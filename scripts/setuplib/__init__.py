"""What scripts/setup.py is made of. Python 3.9, standard library only."""
