"""What training and evaluation share: pictures, scenes, degradations, pairs, losses and metrics.

Not part of the installed packages. Scripts find it because Python puts a script's own folder first on
its path: run them as `python scripts/train.py`.
"""
