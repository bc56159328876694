"""What the results of a study tell: pure functions of its space and its results.

cube         trials as points of the unit cube
forest       bagged, boosted regression trees on it, and the boxes of their leaves
importance   which parameters matter, by functional ANOVA on the boxes
dependence   how a metric follows one parameter, or two
outlook      whether further trials will help, by the statistics of records
"""
