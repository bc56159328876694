"""What the agent concludes from what it sees of one served version.

base        the interface: fed with what was seen, a detector says what is wrong now, or nothing
reference   the version's reference profile as arrays: channels, bins, counts
effect      how far apart two histograms are
betting     bets against uniform p-values, in Shiryaev-Roberts form
drift       inputs and outputs: do they still look as they did when all was well?
rate        a bet on counts: is a share above its limit?
accuracy    true outcomes: did the model get worse than it may?
health      errors and latency, from Triton's statistics
"""
