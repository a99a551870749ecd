"""Item response theory in NumPy: arrays in, arrays out.

No clock, no network, no global random state; a `numpy.random.Generator` is passed in where
one is needed. Import from the modules: `model`, `calibration`, `ability`, `identification`.
"""
