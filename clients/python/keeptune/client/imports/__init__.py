"""Results from elsewhere into a study, and a study's results out of it.

adding        trials into a study, each once however often it is tried
csv_table     a table's rows to trials, and trials to a table
optuna_study  an Optuna study to one of ours
"""
