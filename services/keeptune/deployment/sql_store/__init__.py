"""What the deployment service keeps. Every function runs inside the caller's transaction.

tables    the tables beside the records of models, versions, rollouts and hosts
registry  models, versions and rollouts
hosts     hosts, their last reports, their live sessions and their credentials
orders    the orders given to hosts, and what became of them
captures  which samples hosts have uploaded
"""
