"""The feature store: what is known about tissue, and how it came to be known.

This floor owns the database and the readers of the outside world. It knows no
network (no torch) and no estimator (no scikit-learn), so that anything above can
change without it.
"""
