"""From the datasets a training names to arrays that every worker of the host shares.

prepare   rows of all sources together, labels to class indices, split; says what is wrong
split     which rows are held out for validation
cache     prepared data as memory-mapped .npy files, one folder for each content
"""
