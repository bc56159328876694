"""From the datasets a training names to arrays that every worker of the host shares.

prepare   rows of all sources together, labels to class indices, split; says what is wrong
split     which rows are held out for validation
keeper    makes the data of a training, and makes them again when they were lost
cache     prepared data as memory-mapped .npy files, one folder for each content
"""
