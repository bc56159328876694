"""The live links to agents.

link      one session: greets, takes what the agent says, sends what it is ordered
incoming  what an agent's messages do
"""
