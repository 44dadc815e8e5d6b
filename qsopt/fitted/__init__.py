"""What ships of a calibration: groups of fitted parameters, the efficiency sets that they make, and
the errors to expect.
"""
