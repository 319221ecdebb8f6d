"""Fetches, verifies, unpacks and builds what mlxrank needs. Python 3.9, standard library only."""
