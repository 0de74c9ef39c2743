"""Points of several volumes of one moment: all are frozen before any is thawed.

`rounds` decides, at the lead; `seat` is where one volume's maker of points sits, at the lead and everywhere else.
"""
