"""Whether confidences come true, and what may pass unseen: calibration, risk-coverage curve, acceptance.

`figures.confidence_of` judges an evaluation, `fitting.fit` makes a calibration from one; the rest is what they
are made of. What applies a calibration is in `engines.confidence`.
"""
